// Turns strokes into 28 × 28 bytes, calls the infer route, and shows the ten probabilities.
"use strict";

const SIZE = 28; // width and height of the network's input in pixels
const BOX = 20; // MNIST scales each digit to fit a box of this size
const PEN = 20; // line width in pixels of the 280 × 280 drawing
const STEP = 8; // pixels that an arrow key moves the pen

const byId = (id) => document.getElementById(id);
const drawing = byId("drawing");
const ink = drawing.getContext("2d", { willReadFrequently: true });
const bars = Array.from({ length: 10 }, (_, digit) => addBar(digit));
const keyboard = { x: 140, y: 140, down: false };
const MODEL = `/v2/models/${document.body.dataset.models.split(" ")[0]}`;
let asking = false;
let changed = false;

function addBar(digit) {
  const row = document.createElement("li");
  row.innerHTML = `<span>${digit}</span><div class="track"><div class="bar"></div></div><span class="share">–</span>`;
  byId("bars").append(row);
  return row;
}

function stroke(x0, y0, x1, y1) {
  ink.lineWidth = PEN;
  ink.lineCap = "round";
  ink.strokeStyle = "#fff";
  ink.beginPath();
  ink.moveTo(x0, y0);
  ink.lineTo(x1 + 0.01, y1); // a line of length 0 would not be drawn
  ink.stroke();
  show();
}

function clear() {
  ink.fillStyle = "#000";
  ink.fillRect(0, 0, drawing.width, drawing.height);
  show();
}

// Return the bounding box of the ink and its center of mass, or null if there is no ink.
function inkOf(context) {
  const { width, height } = context.canvas;
  const pixels = context.getImageData(0, 0, width, height).data;
  let left = width, right = -1, top = height, bottom = -1, mass = 0, sumX = 0, sumY = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const value = pixels[4 * (y * width + x)];
      if (!value) continue;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y);
      mass += value;
      sumX += value * (x + 0.5);
      sumY += value * (y + 0.5);
    }
  }
  if (!mass) return null;
  return { left, top, width: right - left + 1, height: bottom - top + 1, x: sumX / mass, y: sumY / mass };
}

// Draw the network's input, which is the drawing scaled down or, if centred, preprocessed as in
// MNIST, and return its pixels.
function shrink(target, centred) {
  const context = target.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#000";
  context.fillRect(0, 0, SIZE, SIZE);
  const found = inkOf(ink);
  if (found && centred) {
    const scale = BOX / Math.max(found.width, found.height);
    // MNIST puts the center of mass in the middle.
    const x = SIZE / 2 - (found.x - found.left) * scale;
    const y = SIZE / 2 - (found.y - found.top) * scale;
    context.drawImage(drawing, found.left, found.top, found.width, found.height,
      x, y, found.width * scale, found.height * scale);
  } else if (found) {
    context.drawImage(drawing, 0, 0, SIZE, SIZE);
  }
  const pixels = context.getImageData(0, 0, SIZE, SIZE).data;
  return found && Array.from({ length: SIZE * SIZE }, (_, i) => pixels[4 * i]);
}

async function get(path, options = {}) {
  const token = byId("token").value;
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) byId("token-row").hidden = false;
  if (!response.ok) throw new Error((await response.json()).error);
  return response;
}

// Show the drawing and classify it, with at most one request in flight.
async function show() {
  changed = true;
  if (asking) return;
  asking = true;
  while (changed) {
    changed = false;
    await new Promise(requestAnimationFrame);
    shrink(byId("plain"), false);
    const pixels = shrink(byId("seen"), byId("centre").checked);
    if (!pixels) showNothing();
    else await ask(pixels).catch((error) => { byId("answer").textContent = error.message; });
  }
  asking = false;
}

async function ask(pixels) {
  const path = `${MODEL}/infer`;
  const input = { name: "images", datatype: "UINT8", shape: [1, SIZE, SIZE], data: pixels };
  const body = JSON.stringify({ inputs: [input], outputs: [{ name: "probabilities" }] });
  byId("curl").textContent = `curl ${location.origin}${path} \\\n  --data '${body}'`;
  const response = await get(path, { method: "POST", body });
  showProbabilities((await response.json()).outputs[0].data);
}

function showProbabilities(probabilities) {
  const best = probabilities.indexOf(Math.max(...probabilities));
  const percent = (share) => `${(100 * share).toFixed(1)}%`;
  byId("answer").textContent = `This is a ${best} (${percent(probabilities[best])})`;
  bars.forEach((row, digit) => {
    row.classList.toggle("best", digit === best);
    row.querySelector(".bar").style.width = `${100 * probabilities[digit]}%`;
    row.querySelector(".share").textContent = percent(probabilities[digit]);
  });
}

function showNothing() {
  byId("answer").textContent = "Nothing drawn yet";
  byId("curl").textContent = "Draw something first";
  bars.forEach((row) => {
    row.classList.remove("best");
    row.querySelector(".bar").style.width = 0;
    row.querySelector(".share").textContent = "–";
  });
}

async function showModel() {
  try {
    const metadata = await (await get(MODEL)).json();
    const accuracy = (100 * metadata.parameters.test_accuracy).toFixed(2);
    const metrics = await (await get("/metrics")).text();
    const drift = Number(/^inference_drift_score(?:\{.*\})? (.*)$/m.exec(metrics)?.[1]);
    const drifted = Number.isNaN(drift) ? "not available yet" : drift.toFixed(3);
    byId("model").textContent =
      `${metadata.name}, version ${metadata.versions[0]} · ${accuracy}% correct on the test images · drift of the last 256 images: ${drifted}`;
  } catch (error) {
    byId("model").textContent = error.message;
  }
}

let last = null;
const place = (event) => {
  const frame = drawing.getBoundingClientRect();
  const scale = drawing.width / frame.width;
  return { x: (event.clientX - frame.left) * scale, y: (event.clientY - frame.top) * scale };
};
drawing.addEventListener("pointerdown", (event) => {
  drawing.setPointerCapture(event.pointerId);
  last = place(event);
  stroke(last.x, last.y, last.x, last.y);
});
drawing.addEventListener("pointermove", (event) => {
  if (!last) return;
  const next = place(event);
  stroke(last.x, last.y, next.x, next.y);
  last = next;
});
for (const end of ["pointerup", "pointercancel"]) drawing.addEventListener(end, () => { last = null; });

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
drawing.addEventListener("keydown", (event) => {
  const { x, y } = keyboard;
  if (event.key === " ") {
    keyboard.down = !keyboard.down;
    if (keyboard.down) stroke(x, y, x, y);
  } else if (ARROWS[event.key]) {
    const [right, down] = ARROWS[event.key];
    keyboard.x = Math.min(280, Math.max(0, x + right * STEP));
    keyboard.y = Math.min(280, Math.max(0, y + down * STEP));
    if (keyboard.down) stroke(x, y, keyboard.x, keyboard.y);
  } else return;
  event.preventDefault();
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") clear(); });
byId("clear").addEventListener("click", clear);
byId("centre").addEventListener("change", show);
byId("token").addEventListener("change", () => { showModel(); show(); });
clear();
showModel();
setInterval(showModel, 10_000);
