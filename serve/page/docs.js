// Shows the routes of openapi.json in groups, and the schemas that they name.
"use strict";

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

const nameOf = (reference) => reference.split("/").at(-1);
const paragraphs = (text = "") => text.split("\n\n").map((part) => element("p", "", part));

// Return the type of a schema, as text and links.
function typeOf({ $ref, anyOf, type, items, additionalProperties: values, format }) {
  if ($ref) return [Object.assign(element("a", "", nameOf($ref)), { href: `#${nameOf($ref)}` })];
  const [option] = anyOf?.filter((other) => other.type !== "null") ?? [];
  if (option) return typeOf(option); // or null, which is as if the field was missing
  if (items) return ["array of ", ...typeOf(items)];
  return values?.type ? ["object of ", ...typeOf(values)] : [format ?? type ?? "any"];
}

// Return a table; a cell is text, or a list of text and elements.
function table(rows) {
  const made = rows.map((row) => element("tr", "", ...row.map((cell) => element("td", "", ...cell))));
  return element("div", "fields", element("table", "", ...made));
}

const field = (name, schema, required, description) => [[element("code", "", name)], typeOf(schema),
  [required ? "required" : "optional"], [description ?? schema.anyOf?.[0].description ?? ""]];

const fieldsOf = ({ properties = {}, required = [] }) => table(Object.entries(properties)
  .map(([name, schema]) => field(name, schema, required.includes(name), schema.description)));

function showRoute(path, method, route, schemas) {
  const parts = paragraphs(route.description);
  const add = (title, part) => parts.push(element("h3", "", title), part);
  if (route.parameters) {
    add("Parameters", table(route.parameters
      .map(({ name, schema, required, description }) => field(name, schema, required, description))));
  }
  const body = route.requestBody?.content["application/json"].schema;
  if (body) add("Body, in JSON", fieldsOf(schemas[nameOf(body.$ref)]));
  add("Responses", table(Object.entries(route.responses).map(([status, { description, content = {} }]) => [
    [element("code", "", status)], [description],
    Object.entries(content).flatMap(([type, { schema }]) => [`${type}: `, ...typeOf(schema), " "])])));
  const badge = element("span", `badge ${method}`, method.toUpperCase());
  const about = [badge, element("code", "", path), element("span", "quiet", route.summary)];
  return element("details", "route", element("summary", "", ...about), ...parts);
}

// Add to the section with a title, which may be a new one.
function addTo(title, part) {
  const id = title.replaceAll(" ", "-");
  const create = () => Object.assign(element("section", "", element("h2", "", title)), { id });
  const section = document.getElementById(id) ?? document.getElementById("routes").appendChild(create());
  section.append(part);
}

async function show() {
  const { paths, components: { schemas } } = await (await fetch("openapi.json")).json();
  for (const [path, methods] of Object.entries(paths)) {
    const group = path.includes("/versions/") ? "A version of a model"
      : path.startsWith("/v2/models/") ? "A model" : "The server";
    for (const [method, route] of Object.entries(methods)) {
      addTo(group, showRoute(path, method, route, schemas));
    }
  }
  for (const [name, schema] of Object.entries(schemas)) {
    if (name.startsWith("Body_")) continue; // shown with its route
    const parts = [element("h3", "", name), ...paragraphs(schema.description), fieldsOf(schema)];
    addTo("Schemas", Object.assign(element("div", "", ...parts), { id: name }));
  }
}

show();
