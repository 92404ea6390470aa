// The view "Credentials": each with its windows, state and usage, the worst first, and with the master key what changes them.

import { ask, field } from "./dialog.js";
import { el, fill, say } from "./dom.js";
import { count, dayOnly, grade, percent, plain, short, time, tokens, whole } from "./format.js";
import { bar, credentialsOf, evenShare, forecast, pace, reasons, resets, usableInWords, worstFirst } from "./pool.js";
import { sparkline } from "./sparkline.js";

const NOT_USED = "not used yet; Anthropic reports its limits with the first response";
const CHANGES = {
  pause: { title: "Pause", text: "No new request uses it until it is resumed. Requests in progress continue." },
  resume: { title: "Resume", text: "It is used at once, also if it is still rate-limited." },
  retry: { action: "resume", title: "Try now", question: (label) => `Try ${label} now?`, text: "Its cooldown ends: the next requests use it, also if it is still limited or rejected." },
  remove: { title: "Remove", text: "Its entry in the credentials file is deleted, with its secret. Requests in progress continue.", danger: true },
};

export function mount(root, app) {
  let order = [];
  let scrolled = null; // the credential of the address that was scrolled to
  fill(root, [
    el("div", { class: "view-head" }, el("h2", { text: "Credentials" }), el("p", { class: "soft", id: "pool-summary" }),
      el("button", { type: "button", class: "primary", id: "add-credential", text: "Add a credential", hidden: true })),
    el("p", { class: "outcome", id: "outcome", role: "status" }),
    el("div", { id: "credentials", class: "rows" }),
  ]);
  const list = root.querySelector("#credentials");
  const outcome = root.querySelector("#outcome");

  function done(result) {
    if (!result) return;
    outcome.className = "outcome good";
    outcome.textContent = `${result.label} was ${result.done}.`;
  }

  root.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { action, label } = button.dataset;
    if (button.id === "add-credential") done(await add(app));
    else if (action === "priority") done(await changePriority(app, label));
    else if (action) done(await change(app, action, label));
  });

  function update() {
    const { data, admin } = app;
    say(root.querySelector("#pool-summary"), data.pool.credentials ? `${usableInWords(data)}, worst first` : "");
    root.querySelector("#add-credential").hidden = !admin;
    order = inOrder(credentialsOf(data), order, list.matches(":hover, :focus-within"));
    fill(list, order.length ? order.map((one) => credential(one, data.now, app)) : [el("p", { class: "soft", text: "The pool has no credentials." })]);
    const wanted = app.state.query.get("show");
    if (wanted !== scrolled) {
      const found = order.some((one) => one.label === wanted) && list.querySelector(`[data-label="${CSS.escape(wanted)}"]`);
      if (found) found.scrollIntoView({ block: "center" });
      scrolled = wanted;
    }
  }

  return { update, unmount() {} };
}

// The worst first; while the user points at the list or is in it, nothing changes places, so that no click hits another row.
function inOrder(credentials, before, isUsed) {
  const sorted = worstFirst(credentials);
  if (!isUsed) return sorted;
  const places = new Map(before.map((one, place) => [one.label, place]));
  return sorted.sort((a, b) => (places.get(a.label) ?? before.length) - (places.get(b.label) ?? before.length));
}

// --- Changes -----------------------------------------------------------------------------------------------------------------

function change(app, action, label) {
  const { title, text, danger, question, action: path = action } = CHANGES[action];
  return ask({ title: question?.(label) ?? `${title} ${label}?`, text, action: title, danger, act: () => app.post(path, { label }) });
}

function changePriority(app, label) {
  const one = app.data.credentials.find((credential) => credential.label === label);
  const value = one?.terms?.priority ?? 0;
  return ask({
    title: `Priority of ${label}`,
    action: "Change",
    fields: field("priority", "Priority", { type: "number", min: -1000, max: 1000, step: 1, value: String(value), required: true },
      "A credential with a higher number gets sessions first; 0 is the default."),
    act: (form) => app.post("priority", { label, priority: form.elements.priority.valueAsNumber }),
  });
}

function add(app) {
  return ask({
    title: "Add a credential",
    action: "Add",
    fields: [
      ...field("label", "Label", { required: true, maxlength: 64 }),
      ...field("secret", "Secret", { type: "password", required: true }, "A setup token (claude setup-token) or an API key. It is written into the credentials file of the proxy."),
      ...field("terms", "Terms", { placeholder: "priority=2 groups=team-a,team-b" }, "Optional."),
    ],
    act: ({ elements }) => {
      const body = Object.fromEntries(["label", "secret", "terms"].map((name) => [name, elements[name].value.trim()]));
      elements.secret.value = "";
      return app.post("add", body);
    },
  });
}

// --- A credential ------------------------------------------------------------------------------------------------------------

function credential(one, now, app) {
  const kind = { usable: "", "partly rate-limited": "in-part" }[one.state.name] ?? one.state.name;
  const used = one.week.requests > 0 || one.last_error || one.state.cooldowns.length > 0;
  return el("article", { key: one.label, class: `card ${kind}${app.state.query.get("show") === one.label ? " wanted" : ""}`, "data-label": one.label, "aria-label": one.label },
    el("div", { class: "who" },
      el("h3", {}, el("span", { text: one.label }), el("small", { text: one.kind })),
      ...reasons(one, now).map((line) => el("p", { class: `state ${line.kind}` }, el("strong", { text: line.what }), line.words)),
      one.last_error && el("p", { class: "small soft", text: `last limit or error ${time(one.last_error.at, now)}: ${plain(one.last_error.text)}` }),
      one.login && one.state.name !== "expired" && el("p", { class: "small soft", text: one.login.words }),
      one.setup_token && (one.state.name !== "rejected" || one.setup_token.expires <= now) && setupToken(one.setup_token),
      one.terms && termsOf(one.terms),
      linksOf(one, app)),
    el("div", { class: "windows" },
      ...one.windows.map((window) => windowOf(one, window, now)),
      one.windows.length === 0 && el("p", { class: "soft", text: used ? "no window reported yet" : NOT_USED })),
    el("div", { class: "usage" }, usageOf(one), "editable" in one && actionsOf(one)));
}

function windowOf(one, window, now) {
  const used = window.utilization;
  const kind = grade(used);
  const even = evenShare(window);
  const course = forecast(one, window, now);
  const words = [course, resets(window, now)].filter(Boolean).join("; ");
  const marks = even === null ? [] : [el("div", { class: "even-mark", style: { left: `${100 * even}%` } })];
  return el("div", { class: "window" },
    el("p", { class: "head" }, el("span", { text: window.title }), el("strong", { class: kind, text: percent(used) })),
    bar(window.title, used, `${percent(used)}, ${words}`, ...marks),
    sparkline(window, now, kind),
    course && el("p", { class: "soft" }, el("span", { class: window.full_at !== null ? "bad" : "", text: course }), pace(window) && `; ${pace(window)}`),
    el("p", { class: "soft", text: resets(window, now) }));
}

function usageOf(one) {
  const head = (text) => el("th", { scope: "col", text, title: "A request counts for the credential that was used last; a limit after which another one was used is a failover." });
  const row = (name, sums) => el("tr", {}, el("th", { scope: "row", text: name }),
    el("td", { text: whole.format(sums.requests) }), el("td", { text: short.format(tokens(sums)) }),
    el("td", { class: sums.errors ? "bad" : "", text: whole.format(sums.errors) }));
  return el("table", {},
    el("caption", { text: `Usage of ${one.label}` }),
    el("thead", {}, el("tr", {}, el("td", { text: count(one.sessions, "session") }), head("requests"), head("tokens"), head("errors"))),
    el("tbody", {}, row("today", one.today), row("7 days", one.week)));
}

function linksOf({ label }, app) {
  const link = (view, text) => el("a", { href: app.href(view, { credential: label }), "aria-label": `${text} of ${label}`, text });
  return el("p", { class: "small links" }, link("history", "History"), link("requests", "Requests"));
}

function setupToken(token) {
  const end = dayOnly.format(new Date(token.expires * 1000));
  const text = token.warning === null ? `setup token expires on ${end}${token.is_exact ? "" : " at the latest"}` : token.words;
  return el("p", { class: `small ${token.warning === null ? "soft" : token.warning <= 7 ? "bad" : "warn"}`, text });
}

function termsOf(terms) {
  const { reserve, owner } = terms;
  const kept = reserve && `the last ${percent(reserve)} of each window are kept${owner ? ` for ${owner}` : " free"}`;
  const others = Object.entries(terms).filter(([name]) => !["paused", "reserve", ...(reserve ? ["owner"] : [])].includes(name));
  const texts = [kept, ...others.map(([name, value]) => `${name.replaceAll("_", " ")} ${[value].flat().join(", ")}`)].filter(Boolean);
  return texts.length > 0 && el("p", { class: "small soft", text: texts.join("; ") });
}

// The buttons for a credential. For one that is set in a variable, only its cooldowns can be ended.
function actionsOf(one) {
  const paused = one.state.name === "paused";
  const button = (action, text) => el("button", { type: "button", key: action, "data-action": action, "data-label": one.label, "aria-label": `${text}: ${one.label}`, text });
  const buttons = [
    one.editable && !paused && button("pause", "Pause"),
    paused ? button("resume", "Resume") : one.state.cooldowns.length > 0 && button("retry", "Try now"),
    one.editable && button("priority", "Priority"),
    one.editable && button("remove", "Remove"),
  ].filter(Boolean);
  if (buttons.length > 0) return el("p", { class: "line" }, ...buttons);
  return one.source && el("p", { class: "small soft", text: `set in ${one.source}` });
}
