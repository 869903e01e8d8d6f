// What idiomorph must leave alone: the contents of [data-kept] belong to our scripts, and the attribute `open` to the
// person who opened or closed the element. A time or a duration that became another one is replaced like all else.

/* global Idiomorph */

const SUBJECTS = ["datetime", "data-since", "data-output"];

const { callbacks } = Idiomorph.defaults;

callbacks.beforeNodeMorphed = (old, fresh) => {
  const isKept = old.nodeType === Node.ELEMENT_NODE && "kept" in old.dataset;
  return !isKept || SUBJECTS.some((name) => old.getAttribute(name) !== fresh.getAttribute?.(name));
};
callbacks.beforeAttributeUpdated = (name) => name !== "open";
