"use strict";

const [form, query, examples, statusLine, orders, before, after, lines] =
  ["form", "query", "examples", "status", "orders", "before", "after", "lines"]
    .map((id) => document.getElementById(id));
let collectionId = "packages";
let latest = 0; // the number of the latest search: slower answers to earlier ones are ignored

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

/* Return the text and the class of a move between two ranks. */
function move(was, now) {
  if (now === undefined) return ["no longer shown", "down"];
  if (was === now) return ["unchanged", ""];
  const up = now < was;
  return [`${up ? "▲" : "▼"} ${Math.abs(was - now)}`, up ? "up" : "down"];
}

function item(hit, rank, score, note, className) {
  const made = element("li", "", "");
  made.dataset.id = hit.chunk.chunk_id;
  const top = element("div", "top", "");
  top.append(
    element("span", "rank", `${rank}.`),
    element("span", "name", hit.chunk.chunk_id),
    element("span", `move ${className}`, note),
    element("span", "score", score.toFixed(3)),
  );
  made.append(top, element("div", "text", hit.chunk.text));
  made.addEventListener("mouseenter", () => mark(made.dataset.id, true));
  made.addEventListener("mouseleave", () => mark(made.dataset.id, false));
  return made;
}

function mark(id, marked) {
  for (const each of orders.querySelectorAll("li")) {
    if (each.dataset.id === id) each.classList.toggle("marked", marked);
  }
}

function show(found) {
  const now = new Map(found.results.map((hit, index) => [hit.chunk.chunk_id, index + 1]));
  before.replaceChildren(...found.vector_results.map((hit) => {
    const [note, className] = move(hit.vector_rank, now.get(hit.chunk.chunk_id));
    return item(hit, hit.vector_rank, hit.vector_score, note, className);
  }));
  after.replaceChildren(...found.results.map((hit, index) => {
    const [note, className] = move(hit.vector_rank, index + 1);
    const was = className ? `${note} (was ${hit.vector_rank})` : note;
    return item(hit, index + 1, hit.score, was, className);
  }));
  document.getElementById("after-title").textContent =
    found.reranked ? `Reranked by ${found.model}` : "Not reranked";
  orders.hidden = false;
  drawLines();
}

/* Connect the two places of each document that is in both lists. */
function drawLines() {
  const box = lines.getBoundingClientRect();
  const middle = (each) => {
    const { top, height } = each.getBoundingClientRect();
    return top + height / 2 - box.top;
  };
  lines.replaceChildren();
  [...after.children].forEach((right, place) => {
    const left = [...before.children].find((each) => each.dataset.id === right.dataset.id);
    if (!left) return;
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    const was = [...before.children].indexOf(left);
    line.setAttribute("class", move(was, place)[1]);
    line.setAttribute("x1", 4);
    line.setAttribute("y1", middle(left));
    line.setAttribute("x2", box.width - 4);
    line.setAttribute("y2", middle(right));
    lines.append(line);
  });
}

function say(text, problem = false) {
  statusLine.textContent = text;
  statusLine.classList.toggle("problem", problem);
}

async function problem(response) {
  const { detail } = await response.json().catch(() => ({}));
  return Array.isArray(detail) ? detail.map((each) => each.msg).join("; ") : detail;
}

async function search() {
  const mine = ++latest;
  say("Searching …");
  try {
    const response = await fetch("search", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ query: query.value, collection_id: collectionId, compare: true }),
    });
    const found = response.ok ? await response.json() : null;
    const fault = response.ok ? null : await problem(response);
    if (mine !== latest) return;
    if (!found) {
      say(`The search failed (${response.status}): ${fault ?? response.statusText}`, true);
      return;
    }
    show(found);
    const ms = (seconds) => `${(1000 * seconds).toFixed(0)} ms`;
    say(
      `Vector search ${ms(found.vector_search_s)}, reranking ${ms(found.reranking_s)}.`
      + (found.reranked ? "" : ` ${found.reason}`),
      !found.reranked,
    );
  } catch (error) {
    if (mine === latest) say(`The server does not answer: ${error.message}`, true);
  }
}

async function loadSamples() {
  const response = await fetch("queries");
  if (!response.ok) return;
  const { collection_id: id, queries } = await response.json();
  collectionId = id;
  document.getElementById("samples").replaceChildren(
    ...queries.map((text) => Object.assign(document.createElement("option"), { value: text })),
  );
  examples.replaceChildren(...queries.slice(0, 6).map((text) => {
    const button = element("button", "", text);
    button.type = "button";
    button.addEventListener("click", () => {
      query.value = text;
      search();
    });
    return button;
  }));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
window.addEventListener("resize", drawLines);
loadSamples();
