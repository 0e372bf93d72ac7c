// Asks each served network about the drawing, and shows their answers next to each other.
import { isDrawing, onChange } from "./drawing.js";
import { SIZE, readPixels } from "./pixels.js";

const SETTLED_MS = 1000; // without a change: the drawing is finished, and counts for drift
const NAMES = document.body.dataset.models.split(" ");

const byId = (id) => document.getElementById(id);
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}%`;
const article = (digit) => (digit === 8 ? "an" : "a");
let networks = []; // name, title, color and metadata of each served model that takes such images
let asking = false;
let changed = false;
let timer;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

async function get(path, options = {}) {
  const token = byId("token").value;
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) byId("token-row").hidden = false;
  if (!response.ok) throw new Error((await response.json()).error);
  return response;
}

// The model's tensors are those of a classifier of 28 × 28 images.
function fits({ inputs, outputs }) {
  const [input] = inputs;
  const found = outputs.find((output) => output.name === "probabilities");
  return inputs.length === 1 && input.name === "images" && input.datatype === "UINT8" &&
    `${input.shape}` === `-1,${SIZE},${SIZE}` && found?.shape.at(-1) === 10;
}

// Read what the server says of its models, and show it.
async function showModels() {
  const read = async (name) => (await get(`/v2/models/${name}`)).json();
  const all = await Promise.all(NAMES.map(read));
  const metrics = await (await get("/metrics")).text();
  const found = all.filter(fits).map((metadata) => ({
    name: metadata.name,
    title: metadata.parameters.title ?? metadata.name,
    color: metadata.parameters.color ?? "var(--accent)",
    metadata,
  }));
  if (!found.length) throw new Error(`No served model takes images of ${SIZE} × ${SIZE} pixels.`);
  byId("models").replaceChildren(...found.map((network) => modelRow(network, metrics)));
  byId("models").parentElement.hidden = false;
  const known = networks.map(({ name }) => name).join() === found.map(({ name }) => name).join();
  networks = found;
  if (!known) addAnswers();
}

function modelRow({ name, title, metadata }, metrics) {
  const accuracy = metadata.parameters.test_accuracy;
  const line = metrics.split("\n").find((line) => line.startsWith(`inference_drift_score{model="${name}"}`));
  const drift = Number(line?.split(" ").at(-1)); // NaN before the first full window
  const score = isNaN(drift) ? "after 256 images" : drift.toFixed(3);
  const cells = [title, accuracy ? percent(accuracy, 2) : "unknown",
    metadata.parameters.drift_tensor ? score : "not measured", metadata.versions[0]];
  return element("tr", {}, ...cells.map((text) => element("td", { textContent: text })));
}

// Add the places of the answers: one per network, and in each digit's row a bar per network.
function addAnswers() {
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
    await classify(false);
  }
  asking = false;
  if (!isDrawing()) timer = setTimeout(() => classify(true), SETTLED_MS);
}

// finished: whether the drawing counts for drift, which half-drawn digits would distort.
async function classify(finished) {
  readPixels(byId("plain"), false);
  const pixels = readPixels(byId("seen"), byId("center").checked);
  if (!pixels) {
    for (const network of networks) showProbabilities(network, null);
    byId("curl").textContent = "Draw something first";
    return;
  }
  const input = { name: "images", datatype: "UINT8", shape: [1, SIZE, SIZE], data: pixels };
  const request = { inputs: [input], outputs: [{ name: "probabilities" }] };
  showCurl(JSON.stringify(request));
  const body = JSON.stringify(finished ? request : { ...request, parameters: { drift: false } });
  await report(Promise.all(networks.map(async (network) => {
    const response = await get(`/v2/models/${network.name}/infer`, { method: "POST", body });
    showProbabilities(network, (await response.json()).outputs[0].data);
  })));
}

function showCurl(body) {
  const token = byId("token").value ? ' \\\n  --header "Authorization: Bearer $SERVE_TOKEN"' : "";
  const address = `${location.origin}/v2/models/${networks[0].name}/infer`;
  byId("curl").textContent = `curl ${address}${token} \\\n  --data '${body}'`;
}

// Show why something failed, until the next time that all goes well.
async function report(work) {
  try {
    await work;
    byId("problem").hidden = true;
  } catch (error) {
    byId("problem").textContent = error instanceof TypeError ? "The server cannot be reached." : error.message;
    byId("problem").hidden = false;
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
  report(showModels()).then(show);
});
report(showModels());
setInterval(() => report(showModels()), 10_000);
