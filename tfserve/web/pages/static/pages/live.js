// Keeps the page up to date: a stream of events reports that something has changed, and htmx fetches the page again.

/* global htmx */

const SILENCE_MS = 2_800; // the server sends an event every second
const RECONNECT_MS = 1_000;
const LABELS = {
  live: "Live",
  connecting: "Connecting",
  stopping: "The server is stopping",
  disconnected: "Disconnected, reconnecting",
  ended: "Your session has ended. Log in in another tab",
};

const connection = document.getElementById("connection");
let stream = null;
let silence = 0;
let retry = 0;

function show(state) {
  if (connection.dataset.state === state) return;
  connection.dataset.state = state;
  connection.textContent = LABELS[state];
}

function connect() {
  disconnect();
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
  stream.addEventListener("alive", () => {
    show("live");
    waitForNext();
  });
  stream.addEventListener("error", onError);
  waitForNext();
}

function onError() {
  // After `stopping` the server ends each stream at once, so only a failed connection means that it is gone.
  if (connection.dataset.state !== "stopping" || stream.readyState === EventSource.CLOSED) show("disconnected");
  if (stream.readyState === EventSource.CLOSED) {
    retry = setTimeout(connect, RECONNECT_MS);
    refetch(); // a stream is refused once the session has ended, but only a response to htmx has the status
  }
}

function waitForNext() {
  clearTimeout(silence);
  silence = setTimeout(() => {
    show("disconnected");
    connect();
  }, SILENCE_MS);
}

function disconnect() {
  clearTimeout(silence);
  clearTimeout(retry);
  stream?.close();
  stream = null;
}

function refetch() {
  const live = document.getElementById("live");
  if (!live.querySelector("[data-final]")) htmx.trigger(live, "changed");
}

// What a person does on the page is visible at once, also where it causes no event.
document.addEventListener("acted", refetch);

// The person has logged out in another tab, or the session has expired. The page continues when the person returns to it.
document.addEventListener("htmx:responseError", ({ detail }) => {
  if (detail.xhr.status !== 401) return;
  disconnect();
  show("ended");
});

// The page sends the versions of the parts that it shows, and gets those that differ.
document.addEventListener("htmx:configRequest", (event) => {
  const parts = [...document.querySelectorAll("[data-version]")];
  event.detail.headers["X-Parts"] = parts.map((part) => `${part.id}=${part.dataset.version}`).join(",");
});

// A hidden page closes its connection, because browsers open at most six per server.
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
window.addEventListener("pagehide", disconnect);
if (!document.hidden) connect();
