// The image: a file that is chosen, or dropped anywhere on the page.

export let picture = null; // an ImageBitmap
const input = document.getElementById("file");
const canvas = document.getElementById("picture");

async function load(file) {
  picture = await createImageBitmap(file).catch(() => {
    throw new Error(`${file.name} is not an image that this browser can read.`);
  });
  Object.assign(canvas, { width: picture.width, height: picture.height, hidden: false });
  canvas.getContext("2d").drawImage(picture, 0, 0);
  document.getElementById("file-name").textContent = file.name;
}

// Call a function with the promise of each image, which is rejected if the file is none.
export function onPicture(callback) {
  const take = ([file]) => file && callback(load(file));
  input.addEventListener("change", () => take(input.files));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer.files);
  });
}
