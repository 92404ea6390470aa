// A dialog that asks before a change, with fields or without. The change is made while it is open, and its error is shown in it.

import { el, make } from "./dom.js";

// Asks for `title` with `text`. `fields` describe the form's inputs, `act(form)` makes the change and may throw an error.
// Returns what `act` returned, or null if the user cancelled.
export function ask({ title, text = "", action, danger = false, fields = [], act }) {
  return new Promise((resolve) => {
    const before = document.activeElement;
    let result = null;
    const node = make(el("dialog", { "aria-labelledby": "dialog-title" },
      el("form", { method: "dialog" },
        el("h2", { id: "dialog-title", text: title }),
        text && el("p", { text }),
        ...fields,
        el("p", { class: "bad outcome", role: "alert" }),
        el("p", { class: "line" },
          el("button", { type: "button", class: "cancel", text: "Cancel" }),
          el("button", { type: "submit", class: danger ? "danger" : "primary", text: action })))));
    const form = node.querySelector("form");
    const submit = node.querySelector("[type=submit]");
    node.querySelector(".cancel").addEventListener("click", () => node.close());
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      submit.disabled = true;
      try {
        result = await act(form) ?? true;
        node.close();
      } catch (error) {
        node.querySelector(".outcome").textContent = error.message;
        submit.disabled = false;
      }
    });
    node.addEventListener("close", () => {
      node.remove();
      if (before?.isConnected) before.focus();
      resolve(result);
    });
    document.body.append(node);
    node.showModal();
    (node.querySelector("input:not([readonly]), select") ?? node.querySelector(danger ? ".cancel" : "[type=submit]")).focus();
  });
}

// A labelled field of a form; `hint` is read with it.
export const field = (id, label, attributes = {}, hint = "") => [
  el("label", { for: id, text: label }),
  el("input", { id, name: id, autocomplete: "off", spellcheck: "false", ...attributes, ...(hint && { "aria-describedby": `${id}-hint` }) }),
  hint && el("p", { id: `${id}-hint`, class: "hint", text: hint }),
];
