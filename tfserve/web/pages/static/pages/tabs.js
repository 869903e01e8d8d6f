// Tabs: a tablist of buttons, each for a panel. Without JavaScript all panels are shown.

const STEPS = { ArrowRight: 1, ArrowLeft: -1 };
const chosen = new Map(); // the id of the chosen tab by that of its list's first tab, for lists that are drawn anew

document.addEventListener("click", (event) => {
  const tab = event.target.closest("[role=tab]");
  if (tab) select(tab);
});

document.addEventListener("keydown", (event) => {
  const tab = event.target.closest("[role=tab]");
  const all = tab ? [...tab.parentElement.children] : [];
  const at = all.indexOf(tab);
  const next = { Home: 0, End: all.length - 1 }[event.key] ?? at + STEPS[event.key];
  if (!tab || Number.isNaN(next) || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  const target = all[(next + all.length) % all.length];
  select(target);
  target.focus();
});

function select(tab) {
  const all = [...tab.parentElement.children];
  chosen.set(all[0].id, tab.id);
  for (const each of all) {
    const isChosen = each === tab;
    each.setAttribute("aria-selected", String(isChosen));
    each.tabIndex = isChosen ? 0 : -1;
    document.getElementById(each.getAttribute("aria-controls")).hidden = !isChosen;
  }
}

function setUp() {
  for (const list of document.querySelectorAll("[role=tablist]")) {
    const first = list.firstElementChild;
    select(document.getElementById(chosen.get(first.id)) ?? first);
  }
}

document.addEventListener("htmx:oobAfterSwap", setUp);
setUp();
