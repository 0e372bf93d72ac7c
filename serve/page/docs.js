// Shows the routes of openapi.json in groups, and the schemas that they name.
"use strict";

const GROUPS = [ // title and how the paths begin; a route is in the first group that fits
  ["One version of a model", "/v2/models/{name}/versions/"],
  ["A model", "/v2/models/"],
  ["The server", "/"],
];

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

const nameOf = (reference) => reference.split("/").at(-1);
const paragraphs = (text = "") => text.split("\n\n").map((part) => element("p", "", part));

// Return the type of a schema, as text and links.
function typeOf(schema) {
  if (schema.$ref) {
    const link = element("a", "", nameOf(schema.$ref));
    link.href = `#${nameOf(schema.$ref)}`;
    return [link];
  }
  const options = schema.anyOf?.filter(({ type }) => type !== "null");
  if (options) return options.flatMap((option, index) => [...(index ? [" or "] : []), ...typeOf(option)]);
  if (schema.type === "array" && schema.items) return ["array of ", ...typeOf(schema.items)];
  const values = schema.additionalProperties;
  if (values?.type) return ["object of ", ...typeOf(values)];
  return [schema.format ?? schema.type ?? "any"];
}

function table(...rows) {
  const made = rows.map((row) => (
    element("tr", "", ...row.map((cell) => element("td", "", ...[cell].flat())))));
  return element("div", "fields", element("table", "", ...made));
}

// Return a table of fields, each with a name, a schema and perhaps a description.
function fieldTable(fields) {
  return table(...fields.map(({ name, required, schema, description }) => [
    element("code", "", name), typeOf(schema), required ? "required" : "optional",
    description ?? schema.description ?? schema.anyOf?.[0].description ?? ""]));
}

function propertyTable({ properties = {}, required = [] }) {
  return fieldTable(Object.entries(properties)
    .map(([name, schema]) => ({ name, schema, required: required.includes(name) })));
}

function routeDetails(path, method, route, schemas) {
  const parts = paragraphs(route.description);
  const add = (title, part) => parts.push(element("h3", "", title), part);
  if (route.parameters) add("Parameters", fieldTable(route.parameters));
  const body = route.requestBody?.content["application/json"].schema;
  if (body) add("Body, in JSON", propertyTable(schemas[nameOf(body.$ref)]));
  add("Responses", table(...Object.entries(route.responses).sort().map(([status, response]) => [
    element("code", "", status), response.description,
    Object.entries(response.content ?? {}).flatMap(([type, { schema }], index) => [
      `${index ? ", or " : ""}${type}: `, ...typeOf(schema)])])));
  const badge = element("span", `badge ${method}`, method.toUpperCase());
  const about = [badge, element("code", "", path), element("span", "quiet", route.summary)];
  return element("details", "route", element("summary", "", ...about), ...parts);
}

function schemaDetails(name, schema) {
  const parts = [element("h3", "", name), ...paragraphs(schema.description), propertyTable(schema)];
  return Object.assign(element("div", "schema", ...parts), { id: name });
}

async function show() {
  const { paths, components: { schemas } } = await (await fetch("openapi.json")).json();
  const group = (path) => GROUPS.find(([, start]) => path.startsWith(start))[0];
  const add = (title, parts) => document.getElementById("routes")
    .append(element("section", "", element("h2", "", title), ...parts));
  for (const [title] of [...GROUPS].reverse()) {
    add(title, Object.entries(paths).filter(([path]) => group(path) === title)
      .flatMap(([path, methods]) => Object.entries(methods)
        .map(([method, route]) => routeDetails(path, method, route, schemas))));
  }
  add("Schemas", Object.entries(schemas).filter(([name]) => !name.startsWith("Body_"))
    .map(([name, schema]) => schemaDetails(name, schema)));
}

show();
