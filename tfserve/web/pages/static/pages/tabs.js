// Tabs: a tablist of buttons, each for a panel. Without JavaScript all panels are shown.

function setUp(tabs) {
  if (tabs.dataset.ready !== undefined) return;
  tabs.dataset.ready = "";
  const list = tabs.querySelector(":scope > [role=tablist]");
  select(list.querySelector("[aria-selected=true]") ?? list.firstElementChild);
  list.addEventListener("click", (event) => event.target.role === "tab" && select(event.target));
  list.addEventListener("keydown", (event) => {
    const all = [...list.children];
    const at = all.indexOf(document.activeElement);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (at < 0 || next === undefined) return;
    event.preventDefault();
    const tab = all[(next + all.length) % all.length];
    select(tab);
    tab.focus();
  });
}

function select(chosen) {
  for (const tab of chosen.parentElement.children) {
    const isChosen = tab === chosen;
    tab.setAttribute("aria-selected", String(isChosen));
    tab.tabIndex = isChosen ? 0 : -1;
    document.getElementById(tab.getAttribute("aria-controls")).hidden = !isChosen;
  }
}

function all() {
  document.querySelectorAll("[data-tabs]").forEach(setUp);
}

document.addEventListener("htmx:oobAfterSwap", () => {
  document.querySelectorAll("[data-tabs]").forEach((tabs) => {
    delete tabs.dataset.ready;
    setUp(tabs);
  });
});
all();
