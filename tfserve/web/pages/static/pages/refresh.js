// Pages with counters fetch themselves again every few seconds: traffic is a change that causes no event.

/* global htmx */

const EVERY_MS = 5_000;

setInterval(() => {
  const live = document.getElementById("live");
  if (live && !document.hidden && document.getElementById("connection").dataset.state === "live") htmx.trigger(live, "changed");
}, EVERY_MS);
