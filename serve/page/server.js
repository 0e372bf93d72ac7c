// What the server says: with the page, in the models' metadata and in its metrics.

const { dataset } = document.body;
const { rows: ROWS, tolerance: TOLERANCE } = dataset; // see serve/model/drift.py
const NAMES = dataset.models.split(" ").filter(Boolean);
const SAMPLED = dataset.sampled.split(" ");
export const DRAWS = dataset.input === "drawing"; // digits; otherwise the input is an image file
export const SHAPE = dataset.shape.split(",").map(Number); // of an image: height, width, channels first

// Return the response to a request with the token, if it is a success.
export async function get(path, options = {}) {
  const token = document.getElementById("token").value;
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const response = await fetch(path, { ...options, headers }).catch(() => {
    throw new Error("The server cannot be reached.");
  });
  if (response.status === 401) document.getElementById("token-row").hidden = false;
  if (!response.ok) {
    const { error } = await response.json().catch(() => ({}));
    const message = error ?? `The server answers with status ${response.status}.`;
    throw Object.assign(new Error(message), { status: response.status });
  }
  return response;
}

// Return the served networks. Those with the same title are called by their names, and those with
// the same color get others.
export async function readNetworks() {
  if (!NAMES.length) throw new Error("No served model classifies grey or colored images.");
  const read = async (name) => (await get(`/v2/models/${name}`)).json();
  const models = await Promise.all(NAMES.map(read));
  const metrics = await (await get("/metrics")).text();
  const differ = (key) => new Set(models.map(({ parameters }) => parameters[key])).size === models.length;
  const [titlesDiffer, colorsDiffer] = [differ("title"), differ("color")];
  return models.map(({ name, versions, outputs, parameters }, index) => ({
    name,
    title: (titlesDiffer && parameters.title) || name,
    color: colorsDiffer ? parameters.color ?? "var(--accent)"
      : `hsl(${(360 * index) / models.length} 60% 50%)`,
    classes: JSON.parse(parameters.labels ?? "{}").probabilities
      ?? [...Array(outputs.find((output) => output.name === "probabilities").shape[1]).keys()].map(String),
    accuracy: parameters.test_accuracy,
    drift: describeDrift(name, metrics),
    version: versions[0],
    isSampled: SAMPLED.includes(name),
  }));
}

function describeDrift(name, metrics) {
  const value = (metric) => Number(metrics.split("\n")
    .find((line) => line.startsWith(`${metric}{`) && line.includes(`model="${name}"`))?.split(" ").at(-1));
  if (isNaN(value("inference_reference_share"))) return "not measured";
  const rank = value("inference_drift_rank");
  if (isNaN(rank)) return `after ${ROWS} images`;
  const alarm = value("inference_drift_alarm_timestamp_seconds");
  if (isNaN(alarm)) return "like the test images";
  const time = new Date(1000 * alarm).toLocaleTimeString([], { timeStyle: "short" });
  return `${Math.abs(rank - 0.5) > TOLERANCE ? "un" : ""}like the test images, last alarm at ${time}`;
}

// Return whether any of the networks' samples has the image of a request, and now its label.
export async function label(networks, id, name) {
  const body = new Blob([JSON.stringify({ id, label: name })], { type: "application/json" });
  const kept = networks.map((network) => get(`/v2/models/${network.name}/labels`, { method: "POST", body })
    .then(() => true, (error) => {
      if (error.status !== 404) throw error;
      return false;
    }));
  return (await Promise.all(kept)).includes(true);
}
