// Lists each route and schema of openapi.json, with its part of the document.
"use strict";

function add(title, part) {
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  const pre = document.createElement("pre");
  summary.textContent = title;
  pre.textContent = JSON.stringify(part, null, 2);
  details.append(summary, pre);
  document.getElementById("routes").append(details);
}

async function show() {
  const openapi = await (await fetch("openapi.json")).json();
  for (const [path, methods] of Object.entries(openapi.paths)) {
    for (const [method, route] of Object.entries(methods)) add(`${method.toUpperCase()} ${path}`, route);
  }
  for (const [name, schema] of Object.entries(openapi.components.schemas)) add(name, schema);
}

show();
