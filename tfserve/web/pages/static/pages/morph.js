// The swap style `morph`: makes the page equal to what the server sent and leaves alone what is equal already, so
// that text stays selected, details stay open and nothing flickers. Elements are matched by id or data-key, others
// by their place. What is inside [data-kept] belongs to a script of ours, and `open` to the reader.

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

function morphChildren(parent, wanted) {
  const keyed = new Map([...parent.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let next = parent.firstChild;
  for (const fresh of [...wanted.childNodes]) {
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
    const gone = next;
    next = next.nextSibling;
    gone.remove();
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
