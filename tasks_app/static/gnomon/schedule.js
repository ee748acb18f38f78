// The schedule part of the task form: shows the fields of the chosen kind, and asks
// the server what the schedule means while one types.
"use strict";

(() => {
  const form = document.querySelector("[data-schedule-form]");
  const fields = form.querySelector("[data-schedule-fields]");
  const target = form.querySelector("[data-preview]");
  let timer;
  let running;

  function kind() {
    return form.querySelector('input[name="kind"]:checked')?.value;
  }

  function showKind() {
    for (const part of fields.querySelectorAll("[data-kind]")) {
      part.hidden = !part.dataset.kind.split(" ").includes(kind());
    }
  }

  async function preview() {
    running?.abort();
    running = new AbortController();
    const query = new URLSearchParams();
    for (const input of fields.querySelectorAll("input, select")) {
      const isChoice = ["radio", "checkbox"].includes(input.type);
      if (!isChoice || input.checked) query.append(input.name, input.value);
    }
    try {
      const answer = await fetch(`${target.dataset.preview}?${query}`, { signal: running.signal });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      target.replaceChildren(...page.body.childNodes);
    } catch {
      // a newer question is under way, or the server is away: the next key asks again
    }
  }

  fields.addEventListener("input", () => {
    showKind();
    clearTimeout(timer);
    timer = setTimeout(preview, 300);
  });
  showKind();
  preview();
})();
