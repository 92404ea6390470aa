"use strict";
// Fetches the data with the entered token and updates the page. Texts of the data become text nodes only, never markup.
// Unchanged elements are not touched, so that nothing flickers and a screen reader keeps its position.
(() => {
  const REFRESH_MS = 5000;
  const TOKEN = "claude-proxy-token";
  const HEADER = "x-litellm-api-key";
  const NOT_USED = "not used yet; Anthropic reports its limits with the first response";
  const byId = (id) => document.getElementById(id);
  const whole = new Intl.NumberFormat();
  const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
  const dated = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
  const usd = new Intl.NumberFormat(undefined, { style: "currency", currency: "USD" });
  const dayOnly = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
  let timer = 0;
  let respondedAt = 0;
  let shown = null;
  // The label of the credential whose removal the user must confirm.
  let removing = "";

  const time = (at, now) => (Math.abs(at - now) < 12 * 3600 ? clock : dated).format(new Date(at * 1000));
  const percent = (fraction) => `${Math.round(100 * fraction)} %`;
  const tokens = (sums) => sums.input + sums.output + sums.cache_read + sums.cache_write;

  // Describes an element: its tag, its attributes (including `text`, `width` and `class`), and its children.
  const el = (tag, attributes = {}, ...children) => ({ tag, attributes, children: children.filter(Boolean) });

  function make(description) {
    const node = document.createElement(description.tag);
    update(node, description);
    return node;
  }

  function update(node, description) {
    for (const name of node.getAttributeNames()) {
      if (!(name in description.attributes) && name !== "style") node.removeAttribute(name);
    }
    for (const [name, value] of Object.entries(description.attributes)) {
      if (name === "text") {
        if (node.textContent !== value) node.textContent = value;
      } else if (name === "width") {
        if (node.style.width !== value) node.style.width = value;
      } else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
    }
    if (!("text" in description.attributes)) fill(node, description.children);
  }

  function fill(node, children) {
    for (const child of [...node.childNodes]) if (child.nodeType !== Node.ELEMENT_NODE) child.remove();
    children.forEach((child, place) => {
      const there = node.children[place];
      if (!there) node.append(make(child));
      else if (there.tagName.toLowerCase() !== child.tag) there.replaceWith(make(child));
      else update(there, child);
    });
    while (node.children.length > children.length) node.lastElementChild.remove();
  }

  function windowOf(window, now) {
    const used = window.utilization;
    const grade = used >= 0.95 ? "bad" : used >= 0.75 ? "warn" : "good";
    let forecast = "on track";
    if (used >= 1) forecast = "full";
    else if (window.full_at !== null) forecast = `full at about ${time(window.full_at, now)}`;
    const text = `${forecast}; resets ${time(window.reset, now)}`;
    return el("div", { class: "window" },
      el("p", { class: "head" }, el("span", { text: window.title }), el("strong", { class: grade, text: percent(used) })),
      el("div", {
        class: "track", role: "meter", "aria-label": window.title, "aria-valuemin": 0, "aria-valuemax": 100,
        "aria-valuenow": Math.min(100, Math.round(100 * used)), "aria-valuetext": `${percent(used)}, ${text}`,
      }, el("div", { class: `fill ${grade}-bar`, width: `${Math.min(100, 100 * used)}%` })),
      el("p", { class: "soft", text }));
  }

  function stateOf(state, now) {
    const grade = { usable: "good", "partly rate-limited": "warn", paused: "soft" }[state.name] || "bad";
    const closed = { paused: "paused", expired: "its login has expired: start Claude Code in that home" }[state.name];
    const lines = state.cooldowns.map((cooldown) => {
      const what = cooldown.scope ? `rate-limited for ${cooldown.scope}` : closed ? "rate-limited" : state.name;
      return `${what} until ${time(cooldown.until, now)}: ${cooldown.reason}`;
    });
    if (closed) lines.unshift(closed);
    else if (!state.cooldowns.some((cooldown) => !cooldown.scope)) lines.unshift("usable");
    return lines.map((line, place) => el("p", { class: `state ${place === 0 && line === "usable" ? "good" : grade}`, text: line }));
  }

  function setupToken(token) {
    const end = dayOnly.format(new Date(token.expires * 1000));
    const text = token.warning === null ? `setup token expires on ${end}${token.is_exact ? "" : " at the latest"}` : token.words;
    return el("p", { class: `small ${token.warning === null ? "soft" : token.warning <= 7 ? "bad" : "warn"}`, text });
  }

  // The buttons for a credential. For one that is set in a variable, only its cooldowns can be ended.
  function actionsOf(one) {
    const paused = one.state.name === "paused";
    const button = (action, text, extra = {}) => el("button", { type: "button", "data-action": action, "data-label": one.label, text, ...extra });
    const confirmed = removing === one.label;
    const buttons = [
      one.editable && !paused && button("pause", "Pause"),
      (paused || one.state.cooldowns.length > 0) && button("resume", "Resume"),
      one.editable && button("remove", confirmed ? "Remove now" : "Remove", { "aria-label": `${confirmed ? "Remove now" : "Remove"}: ${one.label}` }),
    ].filter(Boolean);
    return buttons.length > 0 && el("p", { class: "line" }, ...buttons);
  }

  function termsOf(terms) {
    const texts = Object.entries(terms).filter(([name]) => name !== "paused").map(([name, value]) => `${name.replaceAll("_", " ")} ${[value].flat().join(", ")}`);
    return texts.length > 0 && el("p", { class: "small soft", text: texts.join("; ") });
  }

  function credential(one, now) {
    const kind = { usable: "", "partly rate-limited": "in-part" }[one.state.name] ?? one.state.name;
    const fact = (title, text) => el("div", {}, el("dt", { text: title }), el("dd", { text }));
    const facts = el("dl", { class: "facts" },
      fact("sessions", whole.format(one.sessions)),
      fact("requests today", whole.format(one.today.requests)),
      fact("tokens today", short.format(tokens(one.today))),
      fact("errors today", whole.format(one.today.errors)),
      fact("requests, 7 days", whole.format(one.week.requests)),
      fact("tokens, 7 days", short.format(tokens(one.week))));
    const used = one.week.requests > 0 || one.last_error || one.state.cooldowns.length > 0;
    return el("article", { class: kind, "data-label": one.label },
      el("h3", {}, el("span", { text: one.label }), el("small", { text: one.kind })),
      ...stateOf(one.state, now),
      ...one.windows.map((window) => windowOf(window, now)),
      one.windows.length === 0 && el("p", { class: "soft", text: used ? "no window reported yet" : NOT_USED }),
      facts,
      one.last_error && el("p", { class: "soft", text: `last limit or error ${time(one.last_error.at, now)}: ${one.last_error.text}` }),
      one.login && one.state.name !== "expired" && el("p", { class: "small soft", text: one.login.words }),
      one.setup_token && setupToken(one.setup_token),
      one.terms && termsOf(one.terms),
      "editable" in one && actionsOf(one));
  }

  function table(what, rows) {
    const head = (text, extra = "") => el("th", { scope: "col", class: extra, text });
    const cells = (sums, extra = "") => [
      el("td", { class: extra, text: whole.format(sums.requests) }),
      el("td", { class: extra, text: short.format(tokens(sums)) }),
      el("td", { class: `${extra}${sums.errors ? " bad" : ""}`, text: whole.format(sums.errors) }),
    ];
    return [
      el("caption", { text: `${what}: requests, tokens and errors, today and in the last 7 days (UTC)` }),
      el("thead", {}, el("tr", {}, head(what), head("requests today"), head("tokens today", "wide"), head("errors today", "wide"),
        head("requests, 7 days"), head("tokens, 7 days"), head("errors, 7 days"))),
      el("tbody", {}, ...(rows.length
        ? rows.map((row) => el("tr", {}, el("th", { scope: "row", text: row.name }),
          el("td", { text: whole.format(row.today.requests) }), ...cells(row.today, "wide").slice(1), ...cells(row.week)))
        : [el("tr", {}, el("td", { colspan: 7, class: "soft", text: "nothing yet" }))])),
    ];
  }

  function budgetRow(one, now) {
    const grade = one.percent >= 95 ? "bad" : one.percent >= 75 ? "warn" : "good";
    const before = one.configured === null ? "changed" : `config.yaml: ${usd.format(one.configured)}`;
    const notes = [one.soft && "soft", one.override && before].filter(Boolean).join(", ");
    return el("tr", {}, el("th", { scope: "row", text: `${one.scope}, ${one.period}` }),
      el("td", { text: usd.format(one.spent) }), el("td", { text: usd.format(one.limit) }),
      el("td", { class: grade, text: `${one.percent} %` }),
      el("td", { class: "wide", text: time(one.resets_at, now) }), el("td", { class: "wide", text: notes }));
  }

  function budgets(rows, now) {
    const head = (text, extra = "") => el("th", { scope: "col", class: extra, text });
    return [
      el("caption", { text: "Budgets: the amount, what is spent of it, and when it resets" }),
      el("thead", {}, el("tr", {}, head("budget"), head("spent"), head("of"), head("used"), head("resets", "wide"), head("notes", "wide"))),
      el("tbody", {}, ...rows.map((row) => budgetRow(row, now))),
    ];
  }

  function show(data) {
    const { now, pool, store } = data;
    const tile = (title, text, grade = "") => el("div", {}, el("dt", { text: title }), el("dd", { class: grade, text }));
    const room = pool.headroom;
    // Without any window, only a cooldown is known.
    const unknown = room > 0 && data.credentials.every((one) => one.windows.length === 0);
    const today = data.models.reduce((sum, row) => sum + row.today.requests, 0);
    const failed = data.models.reduce((sum, row) => sum + row.today.errors, 0);
    const mine = data.viewer.sees_all_users ? "" : "your ";
    fill(byId("summary"), [
      tile("usable credentials", `${pool.usable} of ${pool.credentials}`, pool.credentials && pool.usable === pool.credentials ? "good" : pool.usable ? "warn" : "bad"),
      tile("room left", room === null ? "–" : unknown ? "not known yet" : percent(room), room === null || unknown ? "" : room < 0.2 ? "bad" : room < 0.5 ? "warn" : "good"),
      tile(`${mine}requests today`, whole.format(today)),
      tile(`${mine}errors today`, whole.format(failed), failed ? "bad" : ""),
    ]);
    fill(byId("credentials"), data.credentials.length ? data.credentials.map((one) => credential(one, now))
      : [el("p", { class: "soft", text: "The pool has no credentials." })]);
    byId("users-title").textContent = data.viewer.sees_all_users ? "Users" : "You";
    byId("models-title").textContent = data.viewer.sees_all_users ? "Models" : "Models that you used";
    fill(byId("budgets"), budgets(data.budgets, now));
    byId("budgets-part").hidden = data.budgets.length === 0;
    byId("change-budget").hidden = !data.viewer.sees_all_users;
    fill(byId("users"), table("name", data.users));
    fill(byId("models"), table("model", data.models));
    fill(byId("failovers"), data.failovers.length ? data.failovers.map((one) => el("li", {},
      el("time", { datetime: new Date(one.at * 1000).toISOString(), text: time(one.at, now) }),
      el("span", { text: one.text }),
      el("span", { class: "soft", text: [one.user, one.model].filter(Boolean).join(", ") })))
      : [el("li", { class: "soft", text: "none" })]);
    const started = dated.format(new Date(store.process_started * 1000));
    const source = !store.kind ? `Not shared: state of one process, running since ${started}`
      : store.unavailable ? `${store.kind} is unavailable: state of one process, running since ${started}`
        : `Shared by all workers through ${store.kind}`;
    byId("store").textContent = `${source}. ${store.usage_since ? `Usage since ${store.usage_since} (UTC days).` : "No usage yet."}`;
    const problems = [...pool.problems, ...(store.unavailable ? [`${store.kind} is unavailable; other workers may have newer data.`] : [])];
    byId("problem").hidden = problems.length === 0;
    byId("problem").textContent = problems.join(" ");
    byId("add").hidden = !data.viewer.sees_all_users;
    shown = data;
  }

  function freshness(text) {
    if (byId("freshness").textContent !== text) byId("freshness").textContent = text;
  }

  function showLogin(message) {
    sessionStorage.removeItem(TOKEN);
    byId("data").hidden = byId("forget").hidden = true;
    byId("login").hidden = false;
    byId("login-error").textContent = message;
    freshness("");
    byId("token").focus();
  }

  async function refresh() {
    clearTimeout(timer);
    const token = sessionStorage.getItem(TOKEN);
    if (!token && document.body.dataset.needsToken === "yes") return showLogin("");
    try {
      const headers = { accept: "application/json", ...(token ? { [HEADER]: token } : {}) };
      const response = await fetch(location.pathname, { headers, cache: "no-store", credentials: "omit" });
      if (sessionStorage.getItem(TOKEN) !== token) return; // the token was removed or replaced meanwhile
      if (response.status === 401) return showLogin("That is not a token of this proxy.");
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      show(await response.json());
      respondedAt = Date.now();
      byId("login").hidden = true;
      byId("data").hidden = false;
      byId("forget").hidden = !token;
      freshness("live");
    } catch (error) {
      const since = respondedAt ? `; data from ${clock.format(new Date(respondedAt))}` : "";
      freshness(`no response from the proxy (${error.message})${since}`);
    }
    timer = setTimeout(refresh, REFRESH_MS);
  }

  async function post(path, body, outcome, words) {
    const headers = { accept: "application/json", "content-type": "application/json", [HEADER]: sessionStorage.getItem(TOKEN) || "" };
    outcome.className = "bad";
    try {
      const response = await fetch(`${location.pathname.replace(/\/+$/, "")}/${path}`, {
        method: "POST", headers, body: JSON.stringify(body), cache: "no-store", credentials: "omit",
      });
      const result = await response.json();
      if (response.ok) outcome.className = "good";
      outcome.textContent = response.ok ? words(result) : result.error.message;
      refresh();
      return response.ok;
    } catch (error) {
      outcome.textContent = `The change failed (${error.message}).`;
      return false;
    }
  }

  const change = (action, body) => post(action, body, byId("outcome"), (result) => `${result.label} was ${result.done}.`);

  function changeBudget(scope, amounts) {
    const pairs = amounts.split(/[\s,]+/).filter(Boolean).map((text) => text.split("="));
    const limits = Object.fromEntries(pairs.map(([period, amount]) => [period, amount === "none" ? null : amount ?? ""]));
    const words = (result) => (result.done === "set" ? `The budget of ${result.scope} was changed.` : `For ${result.scope}, config.yaml applies again.`);
    return post("../budget", { scope, limits }, byId("budget-outcome"), words);
  }

  byId("credentials").addEventListener("click", (event) => {
    const button = event.target.closest("button[data-action]");
    if (!button) return;
    const { action, label } = button.dataset;
    const confirmed = action !== "remove" || removing === label;
    removing = confirmed ? "" : label;
    if (confirmed) change(action, { label });
    else show(shown);
  });
  byId("add").addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = { label: byId("new-label").value.trim(), secret: byId("new-secret").value.trim(), terms: byId("new-terms").value.trim() };
    byId("new-secret").value = "";
    if (await change("add", body)) byId("add").reset();
  });
  byId("change-budget").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (await changeBudget(byId("budget-scope").value.trim(), byId("budget-amounts").value.trim())) byId("change-budget").reset();
  });
  byId("login").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, byId("token").value.trim());
    byId("token").value = "";
    refresh();
  });
  byId("forget").addEventListener("click", () => {
    clearTimeout(timer);
    showLogin("");
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else refresh();
  });
  refresh();
})();
