// Draws what /overlay/stream tells. Whatever comes from the room is set as text, never as HTML.
"use strict";

const style = JSON.parse(document.body.dataset.style);
const subtitle = document.getElementById("subtitle");
const list = document.getElementById("events");
const shown = new Map(); // number of an event -> its line
const gone = new Set(); // numbers of events that were taken away; news of them come late
const MOST_GONE = 1000;
const SHORTEST_PAUSE = 500; // milliseconds before the first attempt to connect again
const LONGEST_PAUSE = 10000;
const SILENCE = 30000; // milliseconds after which a connection that says nothing is dead
let run = null;
let attempts = 0;
let stream = null;
let silence = 0;

function dress() {
  const set = (name, value) => value && document.body.style.setProperty(`--${name}`, value);
  set("size", `${style.size}px`);
  set("colour", style.colour);
  set("outline", style.outline);
  set("background", style.background);
  set("align", style.align);
  set("font", style.font && `"${style.font}"`);
  document.body.classList.add(style.position);
  subtitle.hidden = !style.show.includes("subtitle");
  list.hidden = !style.show.includes("events") || style.events === 0;
}

function words(text, name) {
  const span = document.createElement("span");
  span.className = name;
  span.textContent = text;
  return span;
}

function say(text) {
  subtitle.replaceChildren(...(text ? [words(text, "words")] : []));
}

function sentence(event) {
  const times = event.count > 1 ? ` ×${event.count}` : "";
  const marks = { gift: "🎁", like: "👍", member: "👋", follow: "➕", share: "🔗", fansclub: "💛" };
  const mark = marks[event.kind] ? `${marks[event.kind]} ` : "";
  return mark + [event.text + times].filter((part) => part.trim()).join(" ");
}

function draw(event) {
  if (style.kinds.length && !style.kinds.includes(event.kind)) return;
  if (gone.has(event.number)) return;
  let line = shown.get(event.number);
  if (!line) {
    line = document.createElement("li");
    shown.set(event.number, line);
    list.append(line);
    if (style.hold > 0) setTimeout(() => drop(event.number, line), style.hold * 1000);
  }
  line.className = event.stage === "ended" && event.fate !== "spoken" ? "dropped" : event.stage;
  const row = words("", "words");
  row.append(words(event.user, "user"), " ", words(sentence(event), "text"));
  line.replaceChildren(row);
  while (shown.size > style.events) drop(shown.keys().next().value);
}

function drop(number, line = shown.get(number)) {
  if (shown.get(number) !== line) return; // another run of the bot has an event of that number
  line?.remove();
  if (shown.delete(number)) gone.add(number);
  if (gone.size > MOST_GONE) gone.delete(gone.values().next().value);
}

function forget() {
  list.replaceChildren();
  shown.clear();
  gone.clear();
}

function told(news) {
  if (run !== news.run) forget(); // another run of the bot: its numbers begin again
  run = news.run;
  say(news.subtitle ? news.subtitle.text : "");
  news.events.forEach(draw);
}

function alive() {
  attempts = 0;
  clearTimeout(silence);
  silence = setTimeout(again, SILENCE);
}

function connect() {
  stream = new EventSource("/overlay/stream");
  document.body.dataset.state = "connecting";
  stream.onopen = () => {
    document.body.dataset.state = "connected";
    alive();
  };
  stream.onmessage = (message) => {
    alive();
    told(JSON.parse(message.data));
  };
  stream.addEventListener("ping", alive);
  stream.onerror = again;
}

function again() {
  stream.close(); // its own attempts end for good after an answer that is no stream
  clearTimeout(silence);
  document.body.dataset.state = "waiting";
  say("");
  const longest = Math.min(LONGEST_PAUSE, SHORTEST_PAUSE * 2 ** attempts);
  attempts += 1;
  setTimeout(connect, longest * (0.5 + Math.random() / 2));
}

function preview() {
  say("这里显示正在播放的字幕 · Subtitles appear here");
  const kinds = ["chat", "gift", "member", "follow", "like"];
  for (let number = 1; number <= Math.min(style.events, 5); number += 1) {
    const kind = kinds[number - 1];
    const text = kind === "chat" ? "晚上好" : kind === "gift" ? "小心心" : "";
    draw({ number, kind, user: `观众${number}`, text, count: number, stage: "text", fate: "" });
  }
}

dress();
if (style.preview) {
  preview();
} else {
  connect();
}
