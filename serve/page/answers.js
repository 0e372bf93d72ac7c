// Shows the networks: a table of them, and their answers next to each other.
import { DRAWS } from "./server.js";

const MANY = 30; // bars, from which on they are thin
const byId = (id) => document.getElementById(id);
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}%`;
const article = (digit) => (digit === "8" ? "an" : "a");
const places = {}; // the answer, the bars and the shares of each network, by its name

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function showTable(networks) {
  byId("models").replaceChildren(...networks.map(({ title, accuracy, drift, version }) => {
    const cells = [title, accuracy ? percent(accuracy, 2) : "unknown", drift, version];
    return element("tr", {}, ...cells.map((text) => element("td", { textContent: text })));
  }));
  byId("models").parentElement.hidden = false;
}

// Add the places of the answers: one per network, and in each class's row a bar per network.
export function addPlaces(networks, classes) {
  byId("intro").textContent = networks.length > 1
    ? "See how each of the served networks classifies it."
    : DRAWS ? "The served network classifies it as you draw." : "See how the served network classifies it.";
  const each = (make) => classes.map(() => make());
  for (const { name, color } of networks) {
    const answer = element("p", { className: "answer" });
    const bars = each(() => element("div", { className: "bar" }));
    for (const part of [answer, ...bars]) part.style.setProperty("--color", color);
    places[name] = { answer, bars, shares: each(() => element("span", { className: "share" })) };
  }
  const all = Object.values(places);
  byId("answers").replaceChildren(...all.map(({ answer }) => answer));
  byId("bars").classList.toggle("many", networks.length * classes.length > MANY);
  byId("bars").replaceChildren(...classes.map((name, index) => element("li", {},
    element("span", { textContent: name }),
    element("div", { className: "track" }, ...all.map(({ bars }) => bars[index])),
    element("div", { className: "shares" }, ...all.map(({ shares }) => shares[index])))));
}

// Show a network's answer, or with null none.
export function showProbabilities({ name, title, classes }, probabilities) {
  const { answer, bars, shares } = places[name];
  const best = probabilities?.indexOf(Math.max(...probabilities));
  const found = classes[best];
  const text = found === undefined ? "–" : DRAWS ? `${article(found)} ${found}` : found;
  answer.replaceChildren(element("span", { textContent: title }), " ",
    element("strong", { textContent: text }), " ",
    element("span", { textContent: probabilities ? percent(probabilities[best]) : "" }));
  bars.forEach((bar, index) => { bar.style.width = percent(probabilities?.[index] ?? 0); });
  shares.forEach((share, index) => {
    share.textContent = probabilities ? percent(probabilities[index]) : "";
    share.classList.toggle("best", index === best);
  });
}
