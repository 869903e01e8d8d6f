// What idiomorph must leave alone: the contents of [data-kept] belong to our scripts, and the attribute `open` to the
// person who opened or closed the element.

/* global Idiomorph */

const { callbacks } = Idiomorph.defaults;

callbacks.beforeNodeMorphed = (old) => old.nodeType !== Node.ELEMENT_NODE || !("kept" in old.dataset);
callbacks.beforeAttributeUpdated = (name) => name !== "open";
