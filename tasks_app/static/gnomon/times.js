// Keeps relative times and running clocks true. The server has rendered them once.
"use strict";

(() => {
  const language = document.documentElement.lang || "en";
  const words = new Intl.RelativeTimeFormat(language, { numeric: "always", style: "short" });
  const now = new Intl.RelativeTimeFormat(language, { numeric: "auto" }).format(0, "second");
  const steps = [
    [365 * 86400, "year"], [30 * 86400, "month"], [86400, "day"],
    [3600, "hour"], [60, "minute"], [1, "second"],
  ];

  function relative(seconds) {
    const step = steps.find(([size]) => Math.abs(seconds) >= size);
    return step ? words.format(Math.trunc(seconds / step[0]), step[1]) : now;
  }

  function duration(seconds) {
    if (seconds < 60) return `${Math.max(seconds, 0).toFixed(1)} s`;
    const two = (number) => String(number).padStart(2, "0");
    const whole = Math.floor(seconds);
    if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
    return `${Math.floor(whole / 3600)}h ${two(Math.floor(whole / 60) % 60)}m`;
  }

  function set(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  function tick() {
    const moment = Date.now();
    for (const time of document.querySelectorAll("time[data-relative]")) {
      set(time, relative((Date.parse(time.dateTime) - moment) / 1000));
    }
    for (const element of document.querySelectorAll("[data-elapsed-from]")) {
      const seconds = (moment - Date.parse(element.dataset.elapsedFrom)) / 1000;
      if (element.tagName === "PROGRESS") element.value = Math.max(seconds, 0);
      else set(element, duration(seconds));
    }
  }

  setInterval(tick, 1000);
  document.addEventListener("gn:swapped", tick);
})();
