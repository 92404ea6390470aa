// The colour scheme: the browser's, or the one chosen on this page. Loaded before the first paint, so that nothing flashes.
// `data-theme` of the root is "light" or "dark"; a change is announced with the event "themechange" on window.
"use strict";
(() => {
  const KEY = "claude-proxy-theme";
  const CHOICES = ["auto", "light", "dark"];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let choice = "auto";
  try {
    choice = CHOICES.includes(localStorage.getItem(KEY)) ? localStorage.getItem(KEY) : "auto";
  } catch { /* the browser keeps nothing: the choice lasts as long as the page */ }
  const apply = () => {
    const theme = choice === "auto" ? (dark.matches ? "dark" : "light") : choice;
    if (document.documentElement.dataset.theme === theme) return;
    document.documentElement.dataset.theme = theme;
    window.dispatchEvent(new Event("themechange"));
  };
  window.theme = {
    get choice() { return choice; },
    next() {
      choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
      try {
        localStorage.setItem(KEY, choice);
      } catch { /* as above */ }
      apply();
    },
  };
  dark.addEventListener("change", apply);
  apply();
})();
