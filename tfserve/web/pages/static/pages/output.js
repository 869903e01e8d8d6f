// Shows the output of a job, live. Of a long output only the end is shown; a link leads to the rest.

const SHOWN_BYTES = 200_000;
const ESCAPE_CODES = /\x1b\[[0-9;?]*[ -/]*[@-~]/g;
const UNFINISHED_CODE = /\x1b(\[[0-9;?]*[ -/]*)?$/;

export class Terminal {
  // Completed lines, and the current line, which progress bars overwrite.
  constructor(element) {
    this.element = element;
    this.lines = element.appendChild(document.createTextNode(""));
    this.line = element.appendChild(document.createTextNode(""));
    this.unread = "";
    this.pending = "";
  }

  print(text) {
    if (!this.pending) requestAnimationFrame(() => this.flush());
    this.pending += text;
  }

  flush() {
    const text = this.unread + this.pending;
    this.pending = "";
    const atEnd = this.element.scrollHeight - this.element.scrollTop - this.element.clientHeight < 40;
    const code = UNFINISHED_CODE.exec(text);
    const whole = (code ? text.slice(0, code.index) : text).replace(ESCAPE_CODES, "");
    const lines = whole.split("\n");
    const last = lines.pop();
    this.lines.appendData(lines.map((line) => `${overwritten(line)}\n`).join(""));
    this.line.data = overwritten(last);
    this.unread = this.line.data + (last.endsWith("\r") ? "\r" : "") + (code ? code[0] : "");
    this.shorten();
    if (atEnd) this.element.scrollTop = this.element.scrollHeight;
  }

  shorten() {
    const excess = this.lines.length - SHOWN_BYTES;
    if (excess > 0) this.lines.deleteData(0, this.lines.data.indexOf("\n", excess) + 1 || excess);
  }
}

// A line as a terminal finally shows it: a carriage return restarts the line.
function overwritten(line) {
  return line.replace(/[\b]+/g, "").replace(/\r+$/, "").split("\r").pop();
}

// Shows the output at `data-output` as it comes. Resolves when the job has ended.
export async function follow(element) {
  const terminal = new Terminal(element);
  const head = await fetch(element.dataset.output, { method: "HEAD" });
  const begin = Math.max(0, Number(head.headers.get("X-Next-Offset")) - SHOWN_BYTES);
  const source = new EventSource(`${element.dataset.output}?offset=${begin}`);
  let isFirst = begin > 0;
  source.addEventListener("output", (event) => {
    const { text } = JSON.parse(event.data);
    terminal.print(isFirst ? `…${text.slice(text.indexOf("\n"))}` : text); // the output begins in the middle of a line
    isFirst = false;
  });
  window.addEventListener("pagehide", () => source.close());
  return new Promise((resolve) =>
    source.addEventListener("end", () => {
      source.close();
      element.dataset.ended = "";
      resolve();
    }),
  );
}

const output = document.querySelector("[data-output]");
if (output) follow(output);
