// Makes the networks' input of the strokes: 28 × 28 pixels, 0 (background) to 255 (ink).
import { drawStrokes } from "./drawing.js";

export const SIZE = 28; // width and height of the input in pixels
const BOX = 20; // MNIST scales each digit to fit a box of this size

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

// Draw the input on a 28 × 28 canvas, scaled down or, if centered, preprocessed as in MNIST, and
// return its pixels in row-major order, or null if there is no ink.
export function readPixels(canvas, centered) {
  drawStrokes(ink);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#000";
  context.fillRect(0, 0, SIZE, SIZE);
  const found = measure();
  if (found && centered) {
    const scale = BOX / Math.max(found.width, found.height);
    const x = SIZE / 2 - (found.x - found.left) * scale; // the center of mass in the middle
    const y = SIZE / 2 - (found.y - found.top) * scale;
    context.drawImage(ink.canvas, found.left, found.top, found.width, found.height,
      x, y, found.width * scale, found.height * scale);
  } else if (found) {
    context.drawImage(ink.canvas, 0, 0, SIZE, SIZE);
  }
  const pixels = context.getImageData(0, 0, SIZE, SIZE).data;
  return found && Array.from({ length: SIZE * SIZE }, (_, i) => pixels[4 * i]);
}
