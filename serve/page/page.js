// Asks each served network about the drawing or the image, and shows their answers.
import { addPlaces, showProbabilities, showTable } from "./answers.js";
import { isDrawing, onChange } from "./drawing.js";
import { onPicture, picture } from "./picture.js";
import { readPicture, readStrokes } from "./pixels.js";
import { ask, hide } from "./question.js";
import { DRAWS, SHAPE, get, label, readNetworks } from "./server.js";

const SETTLED_MS = 1000; // without a change: the drawing is finished, and counts
const ASKED = 1 / 5; // of the finished drawings: which class they are, if the server samples them
const NOTHING = DRAWS ? "Draw something first" : "Choose an image first";

const byId = (id) => document.getElementById(id);
let networks = []; // see readNetworks
let asking = false;
let changed = false;
let counted; // the last pixels that counted
let timer;

// Read what the server says of its models, and show it in the table.
async function showNetworks() {
  const found = await readNetworks();
  showTable(found);
  if (networks.length) return;
  networks = found;
  addPlaces(networks, networks[0].classes);
  show();
}

// Show the input and have it classified, with at most one round of requests in flight.
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

// Draw the networks' input, and return its pixels, or null if there is none yet.
function readInput() {
  if (!DRAWS) return readPicture(byId("seen"), picture, byId("invert").checked);
  readStrokes(byId("plain"), false);
  return readStrokes(byId("seen"), byId("center").checked);
}

// finished: whether the input counts for drift and the sample, which half-drawn digits would distort.
async function classify(finished) {
  const pixels = readInput();
  if (`${pixels}` !== counted) hide();
  if (!networks.length) return; // not known yet
  if (!pixels) {
    counted = undefined;
    for (const network of networks) showProbabilities(network, null);
    byId("curl").textContent = NOTHING;
    return;
  }
  if (finished && `${pixels}` === counted) return;
  if (finished) counted = `${pixels}`;
  const input = { name: "images", datatype: "UINT8", shape: [1, ...SHAPE], data: pixels };
  const request = { inputs: [input], outputs: [{ name: "probabilities" }] };
  showCurl(JSON.stringify(request));
  const sampled = networks.filter(({ isSampled }) => isSampled);
  const asks = finished && sampled.length && Math.random() < ASKED; // whatever the answer is
  const id = randomId();
  const body = JSON.stringify({
    ...request, ...(finished ? { id } : { parameters: { drift: false, sample: false } }),
  });
  await Promise.all(networks.map(async (network) => {
    const response = await get(`/v2/models/${network.name}/infer`, { method: "POST", body });
    showProbabilities(network, (await response.json()).outputs[0].data);
  }));
  if (asks && `${pixels}` === counted) ask(networks[0].classes, (name) => label(sampled, id, name));
}

// crypto.randomUUID is missing on a page that came over plain HTTP from another machine.
function randomId() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(16)).join("-");
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

byId("curl").textContent = NOTHING;
if (DRAWS) onChange(show);
else onPicture((loaded) => report("image", loaded).then(show));
for (const id of ["center", "invert"]) byId(id).addEventListener("change", show);
byId("copy").addEventListener("click", copy);
byId("token-row").addEventListener("submit", (event) => {
  event.preventDefault();
  report("models", showNetworks()).then(show);
});
report("models", showNetworks());
setInterval(() => report("models", showNetworks()), 10_000);
