// Asks each served network about the drawing, and shows their answers next to each other.
import { isDrawing, onChange } from "./drawing.js";
import { SIZE, readPixels } from "./pixels.js";
import { ask, hide } from "./question.js";

const SETTLED_MS = 1000; // without a change: the drawing is finished, and counts
const ASKED = 1 / 5; // of the finished drawings: which digit they are, if the server samples them
const { rows: ROWS, tolerance: TOLERANCE } = document.body.dataset; // see serve/model/drift.py
const NAMES = document.body.dataset.models.split(" ");
const SAMPLED = document.body.dataset.sampled.split(" ");

const byId = (id) => document.getElementById(id);
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}%`;
const article = (digit) => (digit === 8 ? "an" : "a");
let networks = []; // name, title, color and places of each served model that takes such images
let asking = false;
let changed = false;
let counted; // the last pixels that counted
let timer;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

async function get(path, options = {}) {
  const token = byId("token").value;
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const response = await fetch(path, { ...options, headers }).catch(() => {
    throw new Error("The server cannot be reached.");
  });
  if (response.status === 401) byId("token-row").hidden = false;
  if (!response.ok) {
    const { error } = await response.json().catch(() => ({}));
    const message = error ?? `The server answers with status ${response.status}.`;
    throw Object.assign(new Error(message), { status: response.status });
  }
  return response;
}

// The model's tensors are those of a classifier of 28 × 28 images.
function fits({ inputs, outputs }) {
  const [input] = inputs;
  const found = outputs.find((output) => output.name === "probabilities");
  return inputs.length === 1 && input.name === "images" && input.datatype === "UINT8" &&
    `${input.shape}` === `-1,${SIZE},${SIZE}` && found?.shape.at(-1) === 10;
}

// Read what the server says of its models, and show it in the table.
async function showModels() {
  const read = async (name) => (await get(`/v2/models/${name}`)).json();
  const models = (await Promise.all(NAMES.map(read))).filter(fits);
  const metrics = await (await get("/metrics")).text();
  if (!models.length) throw new Error(`No served model takes images of ${SIZE} × ${SIZE} pixels.`);
  byId("models").replaceChildren(...models.map((model) => modelRow(model, metrics)));
  byId("models").parentElement.hidden = false;
  if (!networks.length) addAnswers(models);
}

function modelRow({ name, versions, parameters }, metrics) {
  const accuracy = parameters.test_accuracy;
  const cells = [parameters.title ?? name, accuracy ? percent(accuracy, 2) : "unknown",
    drift(name, metrics), versions[0]];
  return element("tr", {}, ...cells.map((text) => element("td", { textContent: text })));
}

function drift(name, metrics) {
  const value = (metric) => Number(metrics.split("\n")
    .find((line) => line.startsWith(`${metric}{`) && line.includes(`model="${name}"`))?.split(" ").at(-1));
  if (isNaN(value("inference_reference_share"))) return "not measured";
  const rank = value("inference_drift_rank");
  if (isNaN(rank)) return `after ${ROWS} images`;
  const alarm = value("inference_drift_alarm_timestamp_seconds");
  if (isNaN(alarm) || Math.abs(rank - 0.5) <= TOLERANCE) return "like the test images";
  const time = new Date(1000 * alarm).toLocaleTimeString([], { timeStyle: "short" });
  return `unlike the test images, last alarm at ${time}`;
}

// Add the places of the answers: one per network, and in each digit's row a bar per network.
function addAnswers(models) {
  networks = models.map(({ name, parameters }) => (
    { name, title: parameters.title ?? name, color: parameters.color ?? "var(--accent)" }));
  byId("intro").textContent = networks.length > 1
    ? "See how each of the served networks classifies it."
    : "The served network classifies it as you draw.";
  for (const network of networks) {
    network.answer = element("p", { className: "answer" });
    network.bars = Array.from({ length: 10 }, () => element("div", { className: "bar" }));
    network.shares = Array.from({ length: 10 }, () => element("span", { className: "share" }));
    for (const part of [network.answer, ...network.bars]) part.style.setProperty("--color", network.color);
  }
  byId("answers").replaceChildren(...networks.map(({ answer }) => answer));
  byId("bars").replaceChildren(...Array.from({ length: 10 }, (_, digit) => element("li", {},
    element("span", { textContent: digit }),
    element("div", { className: "track" }, ...networks.map(({ bars }) => bars[digit])),
    element("div", { className: "shares" }, ...networks.map(({ shares }) => shares[digit])))));
  show();
}

function showProbabilities({ title, answer, bars, shares }, probabilities) {
  const best = probabilities?.indexOf(Math.max(...probabilities));
  const text = probabilities ? `${article(best)} ${best}` : "–";
  answer.replaceChildren(element("span", { textContent: title }), " ",
    element("strong", { textContent: text }), " ",
    element("span", { textContent: probabilities ? percent(probabilities[best]) : "" }));
  bars.forEach((bar, digit) => { bar.style.width = percent(probabilities?.[digit] ?? 0); });
  shares.forEach((share, digit) => {
    share.textContent = probabilities ? percent(probabilities[digit]) : "";
    share.classList.toggle("best", digit === best);
  });
}

// Show the drawing and have it classified, with at most one round of requests in flight.
async function show() {
  clearTimeout(timer);
  changed = true;
  if (asking) return;
  asking = true;
  while (changed) {
    changed = false;
    await new Promise(requestAnimationFrame);
    await report("classify", classify(false));
  }
  asking = false;
  if (!isDrawing()) timer = setTimeout(() => report("classify", classify(true)), SETTLED_MS);
}

// finished: whether the drawing counts for drift and the sample, which half-drawn digits would distort.
async function classify(finished) {
  readPixels(byId("plain"), false);
  const pixels = readPixels(byId("seen"), byId("center").checked);
  if (`${pixels}` !== counted) hide();
  if (!networks.length) return; // not known yet
  if (!pixels) {
    counted = undefined;
    for (const network of networks) showProbabilities(network, null);
    byId("curl").textContent = "Draw something first";
    return;
  }
  if (finished && `${pixels}` === counted) return;
  if (finished) counted = `${pixels}`;
  const input = { name: "images", datatype: "UINT8", shape: [1, SIZE, SIZE], data: pixels };
  const request = { inputs: [input], outputs: [{ name: "probabilities" }] };
  showCurl(JSON.stringify(request));
  const sampled = networks.filter(({ name }) => SAMPLED.includes(name));
  const asks = finished && sampled.length && Math.random() < ASKED; // whatever the answer is
  const id = randomId();
  const body = JSON.stringify({
    ...request, ...(finished ? { id } : { parameters: { drift: false, sample: false } }),
  });
  await Promise.all(networks.map(async (network) => {
    const response = await get(`/v2/models/${network.name}/infer`, { method: "POST", body });
    showProbabilities(network, (await response.json()).outputs[0].data);
  }));
  if (asks && `${pixels}` === counted) ask((digit) => label(sampled, id, digit));
}

// crypto.randomUUID is missing on a page that came over plain HTTP from another machine.
function randomId() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(16)).join("-");
}

// Return whether any of the networks' samples has the drawing, and now its label.
async function label(sampled, id, digit) {
  const body = new Blob([JSON.stringify({ id, label: digit })], { type: "application/json" });
  const kept = sampled.map(({ name }) => get(`/v2/models/${name}/labels`, { method: "POST", body })
    .then(() => true, (error) => {
      if (error.status !== 404) throw error;
      return false;
    }));
  return (await Promise.all(kept)).includes(true);
}

function showCurl(body) {
  const token = byId("token").value ? ' \\\n  --header "Authorization: Bearer $SERVE_TOKEN"' : "";
  const address = `${location.origin}/v2/models/${networks[0].name}/infer`;
  byId("curl").textContent = `curl ${address}${token} \\\n  --data '${body}'`;
}

// Show why a kind of work failed, until it succeeds.
async function report(kind, work) {
  const problem = byId("problem");
  try {
    await work;
    if (problem.dataset.kind === kind) problem.hidden = true;
  } catch (error) {
    problem.textContent = error.message;
    problem.dataset.kind = kind;
    problem.hidden = false;
  }
}

async function copy() {
  try {
    await navigator.clipboard.writeText(byId("curl").textContent);
    byId("copy").textContent = "Copied";
  } catch { // not allowed, as on a page that came over plain HTTP from another machine
    getSelection().selectAllChildren(byId("curl"));
    byId("copy").textContent = "Press Ctrl+C to copy";
  }
  setTimeout(() => { byId("copy").textContent = "Copy"; }, 2000);
}

onChange(show);
byId("center").addEventListener("change", show);
byId("copy").addEventListener("click", copy);
byId("token-row").addEventListener("submit", (event) => {
  event.preventDefault();
  report("models", showModels()).then(show);
});
report("models", showModels());
setInterval(() => report("models", showModels()), 10_000);
