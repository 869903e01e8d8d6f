// Tries a model with an image: from a file, a drop, the camera or a sample. Labels become bars, masks and boxes are
// drawn over the image.

import { Refused, call, send } from "./api.js";

const COLOURS = ["#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#17a2b8", "#f032e6", "#808000", "#9a6324", "#1f9e89"];
const MASK_ALPHA = 140;
const LARGEST_SIDE = 1024;
const VECTORS = "http://www.w3.org/2000/svg";

class Trial {
  constructor(root) {
    this.root = root;
    this.classes = null; // the names of a mask's values, once a mask has come
    this.stream = null;
    const drop = this.part("drop");
    for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => this.over(event, true));
    for (const name of ["dragleave", "drop"]) drop.addEventListener(name, (event) => this.over(event, false));
    drop.addEventListener("drop", (event) => this.take(event.dataTransfer.files[0]));
    this.part("file").addEventListener("change", (event) => this.take(event.target.files[0]));
    this.part("camera").addEventListener("click", () => this.turnCameraOn());
    this.part("camera-off").addEventListener("click", () => {
      this.turnCameraOff();
      this.part("camera").focus(); // because the button with the focus has gone
    });
    this.part("shoot").addEventListener("click", () => this.shoot());
    root.addEventListener("click", (event) => this.takeSample(event.target.closest("[data-sample]")));
  }

  part(name) {
    return this.root.querySelector(`[data-${name}]`);
  }

  over(event, isOver) {
    event.preventDefault();
    this.part("drop").classList.toggle("over", isOver);
  }

  takeSample(button) {
    if (button) this.take(button.dataset.sample);
  }

  // A file, or the address of one.
  async take(source) {
    if (!source || this.root.getAttribute("aria-busy")) return;
    this.root.setAttribute("aria-busy", "true");
    try {
      const file = typeof source === "string" ? await sampleAt(source) : source;
      const began = performance.now();
      const [picture, response] = await Promise.all([decoded(file), send("POST", this.root.dataset.tryImage, file, { "Content-Type": typeOf(file) })]);
      const content = await contentOf(response);
      await this.show(picture, content, performance.now() - began);
    } catch (error) {
      this.part("result").hidden = false;
      this.root.querySelector(".picture").hidden = true; // it is the one before
      this.part("answer").replaceChildren(element("p", { class: "problem", role: "alert" }, error.message));
    } finally {
      this.root.removeAttribute("aria-busy");
      this.part("file").value = "";
    }
  }

  async show(picture, content, milliseconds) {
    const canvas = this.part("picture");
    this.part("result").hidden = this.root.querySelector(".picture").hidden = false;
    this.root.querySelector(".picture svg")?.remove();
    draw(canvas, picture);
    const answer = [];
    if (content instanceof Blob) {
      this.classes ??= await call("GET", this.root.dataset.classes);
      answer.push(await this.overlay(canvas, content));
    } else if (content.predictions[0].boxes) answer.push(...this.boxes(canvas, picture, content.predictions[0].boxes));
    else answer.push(...this.bars(content.predictions[0]));
    answer.push(element("p", { class: "hint" }, `The response took ${Math.round(milliseconds)} ms.`));
    this.part("answer").replaceChildren(...answer);
    this.part("result").scrollIntoView({ block: "nearest", behavior: "smooth" });
  }

  bars({ label, display, top }) {
    const list = element("ul", { class: "label-bars" });
    for (const each of top) list.append(bar(each.display ?? each.label, each.score));
    return [element("p", { class: "verdict" }, display ?? label), list];
  }

  // A mask arrives as grey values: the number of a class for each pixel.
  async overlay(canvas, png) {
    const mask = await createImageBitmap(png, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const layer = new OffscreenCanvas(canvas.width, canvas.height);
    const context = layer.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingEnabled = false;
    context.drawImage(mask, 0, 0, layer.width, layer.height);
    const pixels = context.getImageData(0, 0, layer.width, layer.height);
    const counts = colour(pixels);
    context.putImageData(pixels, 0, 0);
    canvas.getContext("2d").drawImage(layer, 0, 0);
    return this.legend(counts, layer.width * layer.height);
  }

  legend(counts, total) {
    const list = element("ul", { class: "legend" });
    for (const [value, count] of [...counts].sort((a, b) => b[1] - a[1])) {
      const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.background = value ? colourOf(value) : "transparent";
      list.append(element("li", {}, swatch, `${this.classes[value] ?? (value ? `class ${value}` : "background")} `, element("span", { class: "minor" }, percent(count / total))));
    }
    return list;
  }

  boxes(canvas, picture, found) {
    const svg = document.createElementNS(VECTORS, "svg");
    svg.setAttribute("viewBox", `0 0 ${picture.width} ${picture.height}`);
    svg.setAttribute("aria-hidden", "true");
    const names = [...new Set(found.map((each) => each.label))];
    const list = element("ul", { class: "label-bars" });
    for (const { box, label, score } of found) {
      svg.append(...boxed(box, label, score, COLOURS[names.indexOf(label) % COLOURS.length], picture.width));
      list.append(bar(label, score));
    }
    canvas.after(svg);
    return [element("p", { class: "verdict" }, found.length === 1 ? "1 object" : `${found.length} objects`), list];
  }

  // --- the camera

  async turnCameraOn() {
    const hint = this.part("camera-hint");
    hint.hidden = true;
    try {
      if (!navigator.mediaDevices) throw new Error("Browsers allow the camera only on pages with https:// or on localhost.");
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      this.root.querySelector("video").srcObject = this.stream;
      this.part("camera-view").hidden = false;
      this.part("shoot").focus();
    } catch (error) {
      hint.hidden = false;
      hint.textContent = `The camera can't be used: ${error.message}`;
    }
  }

  turnCameraOff() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.part("camera-view").hidden = true;
  }

  shoot() {
    const video = this.root.querySelector("video");
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => this.take(blob), "image/jpeg", 0.92);
  }
}

async function sampleAt(address) {
  const response = await send("GET", address);
  if (!response.ok) throw new Refused(response.status, { message: "This image is not there any more. Load the page again." });
  return response.blob();
}

async function decoded(file) {
  try {
    return await createImageBitmap(file);
  } catch {
    return createImageBitmap(new ImageData(1, 1)); // the browser does not know the format, but the server may
  }
}

function typeOf(file) {
  return file.type.startsWith("image/") ? file.type : "image/unknown";
}

async function contentOf(response) {
  if (response.ok && response.headers.get("Content-Type")?.startsWith("image/")) return response.blob();
  const content = await response.json();
  if (!response.ok) throw new Refused(response.status, typeof content.error === "string" ? { message: content.error } : content.error);
  return content;
}

function draw(canvas, picture) {
  const scale = Math.min(1, LARGEST_SIDE / Math.max(picture.width, picture.height));
  [canvas.width, canvas.height] = [Math.max(1, Math.round(picture.width * scale)), Math.max(1, Math.round(picture.height * scale))];
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
}

// Colours the pixels of each class, and counts them.
function colour({ data }) {
  const counts = new Map();
  for (let at = 0; at < data.length; at += 4) {
    const value = data[at];
    counts.set(value, (counts.get(value) ?? 0) + 1);
    const [red, green, blue] = value ? rgb(colourOf(value)) : [0, 0, 0];
    data.set([red, green, blue, value ? MASK_ALPHA : 0], at);
  }
  return counts;
}

function colourOf(value) {
  return COLOURS[(value - 1) % COLOURS.length];
}

function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

function bar(label, score) {
  const meter = element("progress", { max: "1", value: String(score), "aria-label": label });
  return element("li", {}, element("span", { class: "name" }, label), meter, element("span", { class: "number" }, percent(score)));
}

function boxed([left, top, right, bottom], label, score, stroke, width) {
  const size = Math.max(10, width / 32);
  const rect = document.createElementNS(VECTORS, "rect");
  for (const [name, value] of Object.entries({ x: left, y: top, width: right - left, height: bottom - top, stroke, fill: "none", "stroke-width": size / 6 })) rect.setAttribute(name, value);
  const text = document.createElementNS(VECTORS, "text");
  for (const [name, value] of Object.entries({ x: left + size / 5, y: Math.max(size, top - size / 4), fill: stroke, "font-size": size, "font-weight": 700 })) text.setAttribute(name, value);
  text.textContent = `${label} ${percent(score)}`;
  return [rect, text];
}

function percent(share) {
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
}

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// The part may come later, when the model has been loaded.
let trial = null;

function setUp() {
  const root = document.querySelector("[data-try-image]");
  if (root === trial?.root) return;
  trial?.turnCameraOff();
  trial = root && new Trial(root);
}

document.addEventListener("paste", (event) => {
  if (!event.target.closest("input, textarea")) trial?.take(event.clipboardData.files[0]);
});

document.addEventListener("htmx:oobAfterSwap", setUp);
setUp();
