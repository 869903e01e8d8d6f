// Shows the output of a job, live. Of a long output only the end is shown; a link leads to the rest.

const SHOWN_BYTES = 200_000;
const RETRY_MS = 1_000;
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

// Shows the output at `data-output` as it comes. Resolves when the job has ended, or is not known any more.
export async function follow(element) {
  const terminal = new Terminal(element);
  const head = await found(element);
  if (!head) return;
  let offset = Math.max(0, Number(head.headers.get("X-Next-Offset")) - SHOWN_BYTES);
  let isFirst = offset > 0;
  let source = null;
  window.addEventListener("pagehide", () => source.close());
  await new Promise((resolve) => {
    function connect() {
      source = new EventSource(`${element.dataset.output}?offset=${offset}`);
      source.addEventListener("output", (event) => {
        const { text } = JSON.parse(event.data);
        offset = Number(event.lastEventId);
        // The output begins in the middle of a line, which is left out if it ends here.
        terminal.print(isFirst ? `…${text.slice(Math.max(0, text.indexOf("\n")))}` : text);
        isFirst = false;
      });
      source.addEventListener("end", resolve);
      source.addEventListener("error", async () => {
        if (source.readyState !== EventSource.CLOSED) return; // it connects again by itself
        if (await found(element)) connect();
        else resolve();
      });
    }
    connect();
  });
  source.close();
  element.dataset.ended = "";
}

// The response about the output, once the server responds; null if there is no such output.
async function found(element) {
  for (;;) {
    try {
      const response = await fetch(element.dataset.output, { method: "HEAD" });
      if (response.ok) return response;
      if (response.status < 500 && response.status !== 429) return null;
    } catch {
      // the server is gone, which the page reports
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

const output = document.querySelector("[data-output]");
if (output) follow(output);
