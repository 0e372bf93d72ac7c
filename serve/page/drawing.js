// The drawing: strokes by mouse, pen, finger or keyboard, with undo and samples.

// A stroke is a list of points, each 0 to 1 from the upper left corner.
export const strokes = [];
const PEN = 1 / 14; // width of a stroke
const STEP = 1 / 35; // that an arrow key moves the pen
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SAMPLES = [
  [[...arc(0.47, 0.33, 0.17, 0.15, -150, 90), ...arc(0.47, 0.65, 0.2, 0.17, -90, 150)]], // 3
  [[[0.27, 0.22], [0.72, 0.22], [0.45, 0.84]]], // 7
  [[...arc(0.5, 0.34, 0.19, 0.17, -170, 40), [0.28, 0.82], [0.74, 0.82]]], // 2
  [[[0.36, 0.17], [0.32, 0.5], [0.68, 0.5]], [[0.66, 0.2], [0.62, 0.84]]], // 4
  [[...arc(0.5, 0.33, 0.15, 0.16, 90, -270), ...arc(0.5, 0.67, 0.18, 0.18, -90, 270)]], // 8
];

const canvas = document.getElementById("drawing");
const pen = { x: 0.5, y: 0.5, down: false, shown: false }; // the keyboard's
let current = null; // the stroke that a pointer draws
let pointer; // the id of that pointer, since a second finger has another one
let sample = 0;
let changed = () => {};

// Call a function whenever the drawing changes.
export function onChange(callback) {
  changed = callback;
  paint();
}

// Whether a stroke is being drawn.
export const isDrawing = () => current !== null || pen.down;

// Return the points of a part of an ellipse; angles in degrees, clockwise from the right.
function arc(x, y, radiusX, radiusY, from, to) {
  return Array.from({ length: 61 }, (_, i) => {
    const angle = ((from + ((to - from) * i) / 60) * Math.PI) / 180;
    return [x + radiusX * Math.cos(angle), y + radiusY * Math.sin(angle)];
  });
}

// Draw the strokes white on black, on a square canvas of any resolution.
export function drawStrokes(context) {
  const size = context.canvas.width;
  context.fillStyle = "#000";
  context.fillRect(0, 0, size, size);
  context.strokeStyle = "#fff";
  context.lineWidth = PEN * size;
  context.lineCap = context.lineJoin = "round";
  for (const points of strokes) {
    context.beginPath();
    context.moveTo(points[0][0] * size, points[0][1] * size);
    for (const [x, y] of points) context.lineTo(x * size + 0.01, y * size); // a dot has a length too
    context.stroke();
  }
}

function paint() {
  const size = Math.round(canvas.clientWidth * devicePixelRatio);
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  drawStrokes(context);
  if (pen.shown) {
    context.strokeStyle = pen.down ? "#f80" : "#888";
    context.lineWidth = 2 * devicePixelRatio;
    context.beginPath();
    context.arc(pen.x * size, pen.y * size, (PEN * size) / 2, 0, 2 * Math.PI);
    context.stroke();
  }
  const empty = strokes.length === 0;
  document.getElementById("invitation").hidden = !empty || pen.shown;
  for (const id of ["undo", "clear"]) document.getElementById(id).disabled = empty;
}

function update() {
  paint();
  changed();
}

function place(event) {
  const frame = canvas.getBoundingClientRect();
  return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || current) return;
  pointer = event.pointerId;
  canvas.setPointerCapture(pointer);
  Object.assign(pen, { down: false, shown: false });
  current = [place(event)];
  strokes.push(current);
  update();
});
canvas.addEventListener("pointermove", (event) => {
  if (!current || event.pointerId !== pointer) return;
  const events = event.getCoalescedEvents();
  current.push(...(events.length ? events : [event]).map(place));
  update();
});
for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, (event) => {
    if (!current || event.pointerId !== pointer) return;
    current = null;
    update();
  });
}

function togglePen() {
  pen.down = !pen.down;
  if (pen.down) strokes.push([[pen.x, pen.y]]);
}

canvas.addEventListener("keydown", (event) => {
  const inside = (value) => Math.min(1, Math.max(0, value));
  if (event.key === " ") {
    if (!event.repeat) togglePen();
  } else if (ARROWS[event.key]) {
    const [right, down] = ARROWS[event.key];
    Object.assign(pen, { x: inside(pen.x + right * STEP), y: inside(pen.y + down * STEP) });
    if (pen.down) strokes.at(-1).push([pen.x, pen.y]);
  } else return;
  pen.shown = true;
  event.preventDefault();
  update();
});
canvas.addEventListener("blur", () => {
  Object.assign(pen, { down: false, shown: false });
  update();
});

// Keep only the first strokes.
function keep(count) {
  current = null;
  pen.down = false;
  strokes.length = count;
  update();
}

const clear = () => keep(0);
const undo = () => keep(Math.max(0, strokes.length - 1));

function showSample() {
  clear();
  strokes.push(...structuredClone(SAMPLES[sample]));
  sample = (sample + 1) % SAMPLES.length;
  update();
}

for (const [id, action] of Object.entries({ undo, clear, sample: showSample })) {
  document.getElementById(id).addEventListener("click", action);
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") clear();
  if (event.key === "z" && (event.ctrlKey || event.metaKey) && event.target.tagName !== "INPUT") undo();
});
addEventListener("resize", paint);
