// Shows the confirmation pages as dialogs, and ticks all rows of a list. Without this
// script the same links lead to the same pages.
"use strict";

(() => {
  async function ask(link) {
    const answer = await fetch(link.href, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const question = page.querySelector("[data-confirmation]");
    if (!question) return location.assign(link.href);
    question.querySelector("form").action = link.href;
    const dialog = document.createElement("dialog");
    dialog.className = "gn gn-dialog";
    dialog.setAttribute("aria-label", question.querySelector("h2").textContent);
    dialog.append(question);
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-dialog]");
    if (link && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      ask(link).catch(() => location.assign(link.href));
    }
    const dismiss = event.target.closest("dialog [data-dismiss]");
    if (dismiss) {
      event.preventDefault();
      dismiss.closest("dialog").close();
    }
  });

  document.addEventListener("change", (event) => {
    if (!event.target.matches("[data-check-all]")) return;
    for (const box of event.target.form.querySelectorAll('input[name="task"]')) {
      box.checked = event.target.checked;
    }
  });
})();
