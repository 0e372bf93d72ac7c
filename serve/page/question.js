// Asks which digit a drawing is, with as many clicks for a right answer of the networks as for a
// wrong one.

const question = document.getElementById("question");
const [text, digits] = question.children;
let send; // a label; resolves to whether the server has kept it

digits.replaceChildren(...Array.from({ length: 10 }, (_, digit) => (
  Object.assign(document.createElement("button"), { type: "button", textContent: digit }))));
digits.addEventListener("click", async ({ target }) => {
  if (target === digits) return;
  digits.hidden = true;
  text.textContent = "Sending …";
  try {
    const kept = await send(target.textContent);
    text.textContent = kept ? "Thank you. The server keeps your answer with the drawing."
      : "Thank you. The server has not kept this drawing, so your answer is not kept either.";
  } catch (error) {
    text.textContent = error.message;
  }
});

// Ask; `callback` sends the answer.
export function ask(callback) {
  send = callback;
  text.textContent = "Which digit is it? The server may keep the drawing and your answer.";
  digits.hidden = question.hidden = false;
}

// Ask no more.
export function hide() {
  question.hidden = true;
}
