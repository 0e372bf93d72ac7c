// Asks which class an input is, with as many clicks for a right answer of the networks as for a
// wrong one.
import { DRAWS } from "./server.js";

const [CLASS, INPUT] = DRAWS ? ["digit", "drawing"] : ["class", "image"];
const question = document.getElementById("question");
const [text, buttons] = question.children;
let send; // a label; resolves to whether the server has kept it

buttons.setAttribute("aria-label", `Which ${CLASS} is it?`);
buttons.addEventListener("click", async ({ target }) => {
  if (target === buttons) return;
  buttons.hidden = true;
  text.textContent = "Sending …";
  try {
    const kept = await send(target.textContent);
    text.textContent = kept ? `Thank you. The server keeps your answer with the ${INPUT}.`
      : `Thank you. The server has not kept this ${INPUT}, so your answer is not kept either.`;
  } catch (error) {
    text.textContent = error.message;
  }
});

// Ask for one of the classes; `callback` sends the answer.
export function ask(classes, callback) {
  send = callback;
  text.textContent = `Which ${CLASS} is it? The server may keep the ${INPUT} and your answer.`;
  buttons.replaceChildren(...classes.map((name) => (
    Object.assign(document.createElement("button"), { type: "button", textContent: name }))));
  buttons.hidden = question.hidden = false;
}

// Ask no more.
export function hide() {
  question.hidden = true;
}
