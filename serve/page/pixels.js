// Makes the networks' input, pixels of 0 to 255, of the strokes or of an image.
import { drawStrokes } from "./drawing.js";
import { SHAPE } from "./server.js";

const [HEIGHT, WIDTH] = SHAPE.slice(-2);
const COLORED = SHAPE.length > 2 && SHAPE[0] === 3;
const BOX = 20 / 28; // MNIST scales each digit to fit a box of this share of the image

// Of one resolution on every device, so that a drawing gives the same pixels everywhere.
const ink = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
ink.canvas.width = ink.canvas.height = 280;

// Return the bounding box of the ink and its center of mass, or null if there is no ink.
function measure() {
  const { width, height } = ink.canvas;
  const pixels = ink.getImageData(0, 0, width, height).data;
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

// Return the context of a black canvas of the input's size.
function blank(canvas) {
  Object.assign(canvas, { width: WIDTH, height: HEIGHT });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#000";
  context.fillRect(0, 0, WIDTH, HEIGHT);
  return context;
}

function drawInMiddle(context, image, scale) {
  const [width, height] = [image.width * scale, image.height * scale];
  context.drawImage(image, (WIDTH - width) / 2, (HEIGHT - height) / 2, width, height);
}

// Return the pixels, by channel and then in row-major order, and show what the networks see of them.
function read(context, inverted = false) {
  const image = context.getImageData(0, 0, WIDTH, HEIGHT);
  const { data } = image;
  for (let i = 0; i < data.length; i += 4) {
    const grey = Math.round(0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2]);
    for (let c = i; c < i + 3; c++) data[c] = Math.abs((COLORED ? data[c] : grey) - (inverted ? 255 : 0));
  }
  context.putImageData(image, 0, 0);
  return (COLORED ? [0, 1, 2] : [0])
    .flatMap((channel) => Array.from({ length: HEIGHT * WIDTH }, (_, i) => data[4 * i + channel]));
}

// Draw the strokes as the input, scaled down or, if centered, preprocessed as in MNIST, and return
// its pixels, or null if there is no ink.
export function readStrokes(canvas, centered) {
  drawStrokes(ink);
  const context = blank(canvas);
  const found = measure();
  if (found && centered) {
    const scale = (BOX * Math.min(WIDTH, HEIGHT)) / Math.max(found.width, found.height);
    const x = WIDTH / 2 - (found.x - found.left) * scale; // the center of mass in the middle
    const y = HEIGHT / 2 - (found.y - found.top) * scale;
    context.drawImage(ink.canvas, found.left, found.top, found.width, found.height,
      x, y, found.width * scale, found.height * scale);
  } else if (found) {
    drawInMiddle(context, ink.canvas, Math.min(WIDTH, HEIGHT) / ink.canvas.width);
  }
  return found && read(context);
}

// Draw the middle of an image as the input, without a border, and return its pixels; null without
// an image.
export function readPicture(canvas, image, inverted) {
  const context = blank(canvas);
  if (!image) return null;
  drawInMiddle(context, image, Math.max(WIDTH / image.width, HEIGHT / image.height));
  return read(context, inverted);
}
