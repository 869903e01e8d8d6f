// The htmx swap style `morph`: changes only the parts of the page that differ from the response, so that selections
// are kept, details stay open and nothing flickers. Elements are matched by id or data-key, otherwise by position.
// The contents of [data-kept] belong to our scripts, and the attribute `open` to the user.

/* global htmx */

htmx.defineExtension("morph", {
  isInlineSwap: (style) => style === "morph",
  handleSwap(style, target, fragment) {
    if (style !== "morph") return false;
    morphChildren(target, fragment);
    return [];
  },
});

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset.key : undefined);

function morphChildren(parent, target) {
  const keyed = new Map([...parent.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let next = parent.firstChild;
  for (const fresh of [...target.childNodes]) {
    const match = keyOf(fresh) ? keyed.get(keyOf(fresh)) : unkeyed(next, fresh);
    if (!match) {
      parent.insertBefore(fresh, next);
    } else {
      if (match === next) next = next.nextSibling;
      else parent.insertBefore(match, next);
      morph(match, fresh);
    }
  }
  while (next) {
    const removed = next;
    next = next.nextSibling;
    removed.remove();
  }
}

const unkeyed = (node, fresh) => (node && !keyOf(node) && node.nodeName === fresh.nodeName ? node : null);

function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
  } else if (old.nodeType === Node.TEXT_NODE) {
    old.data = fresh.data;
  } else if (old.nodeType === Node.ELEMENT_NODE) {
    morphAttributes(old, fresh);
    if (!("kept" in old.dataset)) morphChildren(old, fresh);
  }
}

function morphAttributes(old, fresh) {
  for (const { name, value } of fresh.attributes) {
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
}
