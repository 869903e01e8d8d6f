// Runs a trained model in the browser: on the camera's frames, or on chosen files. `model.json` describes the model.
import * as ort from "./onnxruntime.js";

const SHOWN = 5; // best classes
const LEAST_SCORE = 0.3; // of a box
const byId = (id) => document.getElementById(id);
const say = (text, isProblem = false) => {
  byId("status").textContent = text;
  byId("status").classList.toggle("problem", isProblem);
};

let model, session;

async function load() {
  model = await (await fetched("model.json")).json();
  document.title = byId("title").textContent = model.title;
  byId("about").textContent = model.about;
  ort.env.wasm.numThreads = 1; // more need headers that a plain static server does not send
  ort.env.wasm.wasmBinary = await uncompressed(await fetched("onnxruntime.wasm.gz"));
  session = await ort.InferenceSession.create(await (await fetched("model.onnx")).arrayBuffer());
  byId("files").disabled = false;
  byId("camera").disabled = !navigator.mediaDevices;
  say(navigator.mediaDevices ? "Ready." : "Ready. Browsers give the camera only to pages on https:// or localhost, so choose images.");
  document.body.dataset.state = "ready";
}

async function fetched(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: the server answered ${response.status}`);
  return response;
}

async function uncompressed(response) {
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes; // the browser has uncompressed it already
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

// --- prediction

const small = document.createElement("canvas");

async function predict(source) {
  const { width, height } = model;
  [small.width, small.height] = [width, height];
  const context = small.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff"; // what is transparent counts as white
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  const rgba = context.getImageData(0, 0, width, height).data;
  const rgb = new Float32Array(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    rgb[to++] = rgba[from];
    rgb[to++] = rgba[from + 1];
    rgb[to++] = rgba[from + 2];
  }
  const began = performance.now();
  const outputs = await session.run({ [session.inputNames[0]]: new ort.Tensor("float32", rgb, [1, height, width, 3]) });
  return { outputs, ms: performance.now() - began };
}

// --- what is shown: each takes the outputs and gives rows for the list, and may draw on the canvas over the image

const colour = (index, alpha = 1) => `hsl(${(index * 137.5) % 360} 80% 40% / ${alpha})`;
const name = (index) => model.display[index] ?? model.labels[index] ?? String(index);

const SHOW = {
  classification(outputs) {
    const scores = Array.from(outputs[session.outputNames[0]].data);
    const best = scores.map((score, index) => ({ index, score })).sort((a, b) => b.score - a.score);
    return best.slice(0, SHOWN);
  },

  segmentation(outputs, canvas) {
    const { data, dims } = outputs[session.outputNames[0]];
    const [, height, width, classes] = dims;
    const image = new ImageData(width, height);
    const counts = new Array(classes).fill(0);
    const inks = counts.map((_, index) => rgbOf(colour(index)));
    for (let pixel = 0; pixel < width * height; pixel++) {
      let best = 0;
      for (let c = 1; c < classes; c++) if (data[pixel * classes + c] > data[pixel * classes + best]) best = c;
      counts[best]++;
      if (best) image.data.set([...inks[best], 140], pixel * 4);
    }
    [canvas.width, canvas.height] = [width, height];
    canvas.getContext("2d").putImageData(image, 0, 0);
    const shares = counts.map((count, index) => ({ index, score: count / (width * height), swatch: index > 0 }));
    return shares.filter((each) => each.score > 0).sort((a, b) => b.score - a.score);
  },

  detection(outputs, canvas) {
    const count = Number(outputs.count.data[0]);
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.lineWidth = Math.max(2, canvas.width / 200);
    const textHeight = Math.max(14, canvas.width / 35);
    context.font = `${0.8 * textHeight}px system-ui, sans-serif`;
    const found = [];
    for (let n = 0; n < count; n++) {
      const score = outputs.scores.data[n], index = Number(outputs.labels.data[n]);
      if (score < LEAST_SCORE) continue;
      const [left, top, right, bottom] = Array.from(outputs.boxes.data.slice(4 * n, 4 * n + 4));
      const [x, y] = [left * canvas.width, top * canvas.height];
      context.strokeStyle = context.fillStyle = colour(index);
      context.strokeRect(x, y, (right - left) * canvas.width, (bottom - top) * canvas.height);
      const text = `${name(index)} ${Math.round(100 * score)}%`, textTop = Math.max(0, y - textHeight);
      context.fillRect(x, textTop, context.measureText(text).width + 8, textHeight);
      context.fillStyle = "#fff";
      context.fillText(text, x + 4, textTop + 0.8 * textHeight);
      found.push({ index, score, swatch: true });
    }
    return found;
  },
};

function rgbOf(text) {
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = text;
  context.fillRect(0, 0, 1, 1);
  return Array.from(context.getImageData(0, 0, 1, 1).data.slice(0, 3));
}

function list(rows, ms) {
  const shown = rows.map(({ index, score, swatch }) => {
    const row = document.createElement("div"), label = document.createElement("span");
    const bar = document.createElement("i"), percent = document.createElement("span");
    row.className = "bar";
    if (swatch) {
      const square = document.createElement("b");
      square.className = "swatch";
      square.style.background = colour(index);
      label.append(square);
    }
    label.append(name(index));
    bar.style.width = `${100 * score}%`;
    percent.textContent = `${(100 * score).toFixed(score < 0.1 ? 1 : 0)}%`;
    row.append(label, bar, percent);
    return row;
  });
  const time = document.createElement("small");
  time.textContent = rows.length ? `${ms.toFixed(0)} ms` : `nothing found, ${ms.toFixed(0)} ms`;
  return [...shown, time];
}

// --- files

async function showFile(file) {
  const article = document.createElement("article"), view = document.createElement("div");
  const image = new Image(), canvas = document.createElement("canvas"), answer = document.createElement("div");
  view.className = "view";
  answer.className = "answer";
  image.alt = file.name;
  view.append(image, canvas);
  article.append(view, answer);
  byId("results").prepend(article);
  try {
    image.src = URL.createObjectURL(file);
    await image.decode(); // follows the orientation tag
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const { outputs, ms } = await predict(image);
    answer.replaceChildren(...list(SHOW[model.task](outputs, canvas), ms));
  } catch (error) {
    answer.textContent = `${file.name}: this browser cannot read the image (${error.message}).`;
    answer.classList.add("problem");
  }
}

async function showFiles(files) {
  for (const file of files) await showFile(file);
  say("Ready.");
}

// --- camera

async function startCamera() {
  byId("camera").disabled = true;
  try {
    const video = byId("video");
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await video.play();
    byId("live").hidden = false;
    say("The camera is on.");
    for (;;) {
      const overlay = byId("overlay");
      [overlay.width, overlay.height] = [video.videoWidth, video.videoHeight];
      const { outputs, ms } = await predict(video);
      byId("answer").replaceChildren(...list(SHOW[model.task](outputs, overlay), ms));
      await new Promise(requestAnimationFrame);
    }
  } catch (error) {
    say(`The camera cannot be used: ${error.message}`, true);
    byId("camera").disabled = false;
  }
}

byId("camera").addEventListener("click", startCamera);
byId("files").addEventListener("change", (event) => showFiles([...event.target.files]));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (session) showFiles([...event.dataTransfer.files]);
});

load().catch((error) => {
  const hint = location.protocol === "file:" ? " Open it through a web server, such as `python3 -m http.server`." : "";
  say(`The model could not be loaded: ${error.message}.${hint}`, true);
});
