// Keeps the page as it is now: hears of a change on a stream, and fetches the page again. Without
// this file the page reloads itself.
"use strict";

const POLL_MS = 5000;
let polling = null;

function ago(moment) {
  const seconds = Math.max(0, Math.round((Date.now() - moment) / 1000));
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

function spellTimes() {
  for (const each of document.querySelectorAll("time[data-ago]")) {
    each.textContent = ago(Date.parse(each.dateTime));
  }
}

function say(state, text) {
  document.body.dataset.live = state;
  const place = document.querySelector("#live");
  if (place) place.textContent = text;
}

async function refresh() {
  try {
    const response = await fetch(location.href, { cache: "no-store" });
    if (!response.ok) throw new Error(String(response.status));
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    document.title = fresh.title;
    document.querySelector("main").replaceWith(document.adoptNode(fresh.querySelector("main")));
    spellTimes();
    say("on", "live");
  } catch {
    say("off", "no connection");
  }
}

function watch() {
  const stream = new EventSource("/events");
  stream.onmessage = refresh;
  stream.onopen = () => {
    clearInterval(polling);
    polling = null;
    say("on", "live");
  };
  stream.onerror = () => {
    say("off", "no connection");
    if (stream.readyState === EventSource.CLOSED && polling === null) {
      polling = setInterval(refresh, POLL_MS);
    }
  };
}

spellTimes();
setInterval(spellTimes, 1000);
watch();
