// Keeps the page as the server is: one stream of events tells that something has changed, and htmx fetches it.

/* global htmx */

const SILENCE_MS = 40_000; // the server speaks every 15 seconds, so after this nobody is there
const RECONNECT_MS = 2_000;
const WORDS = {
  live: "Live",
  connecting: "Connecting",
  stopping: "The server is stopping",
  disconnected: "Disconnected, trying again",
};

const connection = document.getElementById("connection");
let stream = null;
let silence = 0;
let retry = 0;

function show(state) {
  if (connection.dataset.state === state) return;
  connection.dataset.state = state;
  connection.textContent = WORDS[state];
}

function listen() {
  forget();
  stream = new EventSource("/pages/events");
  stream.addEventListener("changed", () => {
    show("live");
    waitForNext();
    refetch();
  });
  stream.addEventListener("stopping", () => {
    show("stopping");
    waitForNext();
    refetch();
  });
  stream.addEventListener("error", onError);
  waitForNext();
}

function onError() {
  // After `stopping` the server ends each stream at once; only when it can't be reached it is gone.
  if (connection.dataset.state !== "stopping" || stream.readyState === EventSource.CLOSED) show("disconnected");
  if (stream.readyState === EventSource.CLOSED) retry = setTimeout(listen, RECONNECT_MS);
}

function waitForNext() {
  clearTimeout(silence);
  silence = setTimeout(() => {
    show("disconnected");
    listen();
  }, SILENCE_MS);
}

function forget() {
  clearTimeout(silence);
  clearTimeout(retry);
  stream?.close();
  stream = null;
}

function refetch() {
  const live = document.getElementById("live");
  if (!live.querySelector("[data-final]")) htmx.trigger(live, "changed");
}

// A hidden page asks for nothing, and leaves its connection to the others: a browser opens six to a server.
document.addEventListener("visibilitychange", () => (document.hidden ? forget() : listen()));
window.addEventListener("pagehide", forget);
if (!document.hidden) listen();
