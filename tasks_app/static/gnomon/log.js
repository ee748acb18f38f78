// Follows the output of a run: asks each second for what came, and appends it as text.
"use strict";

(() => {
  const card = document.querySelector("[data-log]");
  const lines = card.querySelector("[data-lines]");
  const follow = card.querySelector("[data-follow]");
  const trouble = card.querySelector("[data-log-trouble]");
  const MOST_LINES = 5000;
  const EACH_MS = 1000;
  let failures = 0;

  function atEnd() {
    return lines.scrollHeight - lines.scrollTop - lines.clientHeight < 30;
  }

  function toEnd() {
    lines.scrollTop = lines.scrollHeight;
  }

  function lineElement(chunk) {
    const line = document.createElement("div");
    const time = document.createElement("time");
    const mark = document.createElement("b");
    const text = document.createElement("span");
    line.className = `gn-line gn-${chunk.stream}`;
    line.dataset.attempt = chunk.attempt;
    line.dataset.stream = chunk.stream;
    const last = lines.lastElementChild;
    if (last && last.dataset.attempt !== String(chunk.attempt)) line.classList.add("gn-first");
    time.dateTime = chunk.iso;
    time.title = chunk.title;
    time.textContent = chunk.at;
    mark.textContent = chunk.stream === "stderr" ? "err" : "";
    line.append(time, mark, text);
    return line;
  }

  // A chunk may begin in the middle of a line that an earlier one has left open.
  function append(chunk) {
    const pieces = chunk.text.split("\n");
    const rest = pieces.pop();
    const add = (text, isOpen) => {
      let line = lines.querySelector(
        `[data-open][data-attempt="${chunk.attempt}"][data-stream="${chunk.stream}"]`,
      );
      if (!line) {
        line = lineElement(chunk);
        lines.append(line);
      }
      line.lastElementChild.textContent += text;
      line.toggleAttribute("data-open", isOpen);
    };
    for (const piece of pieces) add(piece.replace(/\r$/, ""), false);
    if (rest) add(rest, true);
  }

  function show(answer) {
    if (!answer.chunks.length) return;
    card.querySelector("[data-log-empty]").hidden = true;
    answer.chunks.forEach(append);
    while (lines.childElementCount > MOST_LINES) lines.firstElementChild.remove();
    if (follow.checked) toEnd();
  }

  async function poll() {
    try {
      const answer = await fetch(`${card.dataset.log}?after=${card.dataset.after}`);
      if (!answer.ok) throw new Error(answer.statusText);
      const news = await answer.json();
      show(news);
      card.dataset.after = news.after;
      if (news.state !== card.dataset.state) {
        card.dataset.state = news.state;
        document.dispatchEvent(new Event("gn:refresh"));
      }
      failures = 0;
      if (news.is_finished) return;
    } catch {
      failures += 1;
    }
    trouble.hidden = failures < 2;
    setTimeout(poll, document.hidden ? 10 * EACH_MS : EACH_MS);
  }

  lines.addEventListener("scroll", () => { follow.checked = atEnd(); });
  follow.addEventListener("change", () => { if (follow.checked) toEnd(); });
  card.querySelector("[data-stderr-only]").addEventListener("change", (event) => {
    lines.classList.toggle("gn-stderr-only", event.target.checked);
    if (follow.checked) toEnd();
  });
  toEnd();
  if (card.hasAttribute("data-is-live")) poll();
})();
