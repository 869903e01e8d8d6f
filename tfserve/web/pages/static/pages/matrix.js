// Says of each cell of a confusion matrix what it counts. From the server, these texts would be half of the page.

function setUp() {
  for (const table of document.querySelectorAll(".matrix")) {
    const predicted = [...table.tHead.rows[0].cells].map((each) => each.textContent);
    for (const row of table.tBodies[0].rows) {
      for (const cell of row.cells) {
        const shown = cell.tagName === "TD" && cell.firstElementChild;
        if (!shown) continue;
        const text = `${shown.textContent} of ${row.cells[0].textContent} predicted as ${predicted[cell.cellIndex]}`;
        if (shown.tagName === "A") shown.setAttribute("aria-label", text);
        shown.title = text;
      }
    }
  }
}

document.addEventListener("htmx:oobAfterSwap", setUp);
setUp();
