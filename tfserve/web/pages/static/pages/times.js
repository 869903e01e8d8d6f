// Shows times in the user's time zone, and durations that count up every second by the server's clock.

let ahead = 0; // seconds that this computer's clock is ahead of the server's

function setClock() {
  const now = Number(document.body.dataset.now);
  if (now) ahead = Date.now() / 1000 - now;
}

function tick() {
  const now = Date.now() / 1000 - ahead;
  for (const element of document.querySelectorAll("[data-since]")) {
    write(element, duration(now - Number(element.dataset.since)));
  }
  for (const element of document.querySelectorAll("[data-ago]")) {
    write(element, ago(now - Date.parse(element.dateTime) / 1000));
  }
}

function localize() {
  for (const element of document.querySelectorAll("time[data-kept]")) {
    const moment = new Date(element.dateTime);
    const isToday = moment.toDateString() === new Date().toDateString();
    if (element.dataset.ago === undefined) write(element, isToday ? moment.toLocaleTimeString() : moment.toLocaleString());
    element.title = moment.toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" });
  }
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// The same format as in templatetags/units.py.
function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

// As the tag `ago` in templatetags/units.py.
function ago(seconds) {
  if (seconds < 5) return "just now";
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return `${Math.round(seconds)} s ago`;
}

function refresh() {
  tick();
  localize();
}

for (const swapped of ["htmx:afterSwap", "htmx:oobAfterSwap"]) document.addEventListener(swapped, refresh);
setInterval(tick, 1000);
setClock(); // once: only parts of the page are replaced, and the time in it is that of its loading
refresh();
