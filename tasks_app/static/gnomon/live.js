// Refreshes the parts of a page marked data-live from the page's own address: every
// 2 s while something runs, 10 s otherwise, 60 s when nobody is there, not when hidden.
"use strict";

(() => {
  const parts = () => document.querySelectorAll("[data-live]");
  const connection = () => document.getElementById("gn-connection");
  const focusable = "a[href], button, summary";
  let lastActive = Date.now();
  let failures = 0;
  let timer;

  function delay() {
    if (Date.now() - lastActive > 60000) return 60000;
    return document.querySelector("[data-busy]") ? 2000 : 10000;
  }

  // What someone is filling in, has ticked or has marked is not taken from them.
  function isHeld(part) {
    const selection = getSelection();
    return (
      part.querySelector("input:checked, input:focus, select:focus, textarea:focus") ||
      (selection && !selection.isCollapsed && part.contains(selection.anchorNode))
    );
  }

  function swap(part, fresh) {
    const controls = [...part.querySelectorAll(focusable)];
    const focused = controls.indexOf(document.activeElement);
    part.querySelectorAll("details").forEach((details, index) => {
      const twin = fresh.querySelectorAll("details")[index];
      if (twin) twin.open = details.open;
    });
    part.replaceWith(fresh);
    if (focused >= 0) fresh.querySelectorAll(focusable)[focused]?.focus();
  }

  async function refresh() {
    clearTimeout(timer);
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.redirected) return location.reload(); // the session has ended
      if (!answer.ok) throw new Error(answer.statusText);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of parts()) {
        const fresh = page.getElementById(part.id);
        if (fresh && !isHeld(part)) swap(part, fresh);
      }
      document.title = page.title;
      document.dispatchEvent(new Event("gn:swapped"));
      failures = 0;
    } catch {
      failures += 1;
    }
    connection().hidden = failures < 2;
    schedule();
  }

  function schedule() {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(refresh, delay());
  }

  if (!parts().length) return;
  for (const event of ["pointerdown", "pointermove", "keydown", "scroll"]) {
    document.addEventListener(event, () => { lastActive = Date.now(); }, { passive: true });
  }
  document.addEventListener("gn:refresh", refresh);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else refresh();
  });
  schedule();
})();
