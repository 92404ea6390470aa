// The last thousand requests: what each was, which rule and credential it used, every attempt and why it failed. New ones appear
// at the top. The address has the filters, and which request is open.

import { el, fill, say } from "./dom.js";
import { bytes, count, plain, raw, route, seconds, short, time, tokens, whole } from "./format.js";

const REFRESH_MS = 5000;
const PAGE = 100;
const MOST = 1000;
// How long after the last key a search begins.
const TYPING_MS = 300;
const FILTERS = ["q", "user", "model", "credential", "rule", "lane", "status"];
const LANES = ["claude", "messages", "chat", "completion", "litellm", "cloud", "demo"];
const STATUSES = { "": "all", ok: "succeeded", error: "failed", failover: "failed over" };
// What a lane and a rule are.
const HINTS = {
  lane: "The part of the proxy that sent the request: claude (to Anthropic), messages (to providers with Anthropic's format), chat (with OpenAI's format), completion (LiteLLM translates), litellm (LiteLLM chooses), cloud (for clients of Bedrock and Vertex AI) or demo",
  rule: "The rule of config.yaml that chose another model than the requested one",
};
const COLUMNS = 9;
// The status for a client that has disconnected.
const LEFT = 499;
const moment = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dated = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const digits = (count) => new Intl.NumberFormat(undefined, { style: "currency", currency: "USD", currencyDisplay: "narrowSymbol", minimumFractionDigits: count, maximumFractionDigits: count });
const [small, large] = [digits(4), digits(2)];

export function mount(root, app) {
  const head = document.createElement("div");
  const form = document.createElement("form");
  const status = document.createElement("p");
  const list = document.createElement("div");
  const more = document.createElement("p");
  head.className = "view-head";
  form.className = "controls line";
  form.setAttribute("role", "search");
  form.setAttribute("aria-label", "Filter the requests");
  status.className = "soft";
  status.setAttribute("role", "status");
  list.className = "scroll card";
  more.className = "line";
  const title = document.createElement("h2");
  const live = document.createElement("button");
  title.textContent = "Requests";
  live.type = "button";
  live.addEventListener("click", pause);
  head.append(title, status, live);
  root.append(head, form, list, more);
  let requests = new Map(); // by id, the newest first
  let next = null; // where older ones begin
  let running = null;
  let keptSince = null; // the end of the oldest request that the proxy keeps
  let scrolled = null; // the open request that was scrolled to
  let asked = null; // the query of what is shown
  let address = null;
  let isLive = true;
  let ended = false;
  let failure = "";
  let typing = 0;

  function query(extra = {}) {
    const found = new URLSearchParams();
    for (const name of FILTERS) for (const value of app.state.query.getAll(name)) found.append(name, name === "q" ? raw(value) : value);
    for (const [name, value] of Object.entries(extra)) found.set(name, value);
    return `${found}`;
  }

  // Requests more with these parameters, and merges them, unless the filters have changed meanwhile.
  async function load(extra, merge) {
    const wanted = query();
    asked = wanted;
    try {
      const data = await app.get("requests", query(extra));
      if (ended || asked !== wanted) return;
      merge(data);
      running = data.running;
      keptSince = data.kept_since;
      failure = "";
    } catch (error) {
      if (ended || asked !== wanted) return;
      failure = error.status === 401 || error.status === 0 ? "" : `The requests could not be loaded: ${error.message}`;
    }
    render();
  }

  const merge = (found, older) => {
    const all = new Map((older ? [...requests.values(), ...found] : [...found, ...requests.values()]).map((one) => [one.id, one]));
    requests = new Map([...all.values()].sort((one, other) => (one.id < other.id ? 1 : -1)).slice(0, MOST).map((one) => [one.id, one]));
  };
  const restart = () => load({ limit: PAGE }, (data) => {
    requests = new Map();
    merge(data.requests);
    next = data.next;
  });
  const follow = () => {
    const [newest] = requests.keys();
    if (!isLive || asked !== query()) return null;
    if (!newest) return restart();
    // If there are more new ones than a page, the latest page is shown anew.
    return load({ since: newest, limit: PAGE }, (data) => {
      if (data.next) {
        requests = new Map();
        next = data.next;
      }
      merge(data.requests);
    });
  };
  const older = () => load({ before: next, limit: PAGE }, (data) => {
    merge(data.requests, true);
    next = data.next;
  });

  // --- Filters ---------------------------------------------------------------------------------------------------------------

  // The names that can be chosen: those of the pool's data, and those of the requests that are shown.
  function namesOf(field) {
    const known = { user: app.data?.users, model: app.data?.models, credential: app.data?.credentials }[field] ?? [];
    const seen = [...requests.values()].map((one) => (field === "model" ? one.requested : one[field]));
    return [...new Set([...known.map((row) => row.name ?? row.label), ...seen])].filter(Boolean).sort();
  }

  function renderForm() {
    const value = (name) => app.state.query.get(name) ?? "";
    const choose = (name, wanted) => app.go({ [name]: wanted, open: null });
    const picker = (name, title, options) => {
      const chosen = value(name);
      const all = options.some(([key]) => key === chosen) ? options : [...options, [chosen, chosen]];
      return el("label", { key: name, title: HINTS[name] }, title, el("select", { name, value: chosen, onchange: (event) => choose(name, event.target.value) },
        ...all.map(([key, text]) => el("option", { value: key, text, selected: key === chosen }))));
    };
    const names = (name) => [["", "all"], ...namesOf(name).map((one) => [one, one])];
    const search = el("label", { class: "grow", key: "q" }, "Search", el("input", {
      type: "search", name: "q", placeholder: "any text: a project, an error, a request-id", autocomplete: "off", spellcheck: "false", oninput: typed,
    }));
    fill(form, [
      search,
      (app.admin || value("user")) && picker("user", "User", names("user")),
      picker("model", "Model", names("model")),
      picker("credential", "Credential", names("credential")),
      picker("rule", "Rule", names("rule")),
      picker("lane", "Lane", [["", "all"], ...LANES.map((lane) => [lane, lane])]),
      picker("status", "Status", Object.entries(STATUSES)),
      FILTERS.some((name) => value(name)) && el("button", { key: "all", type: "button", text: "Show all", onclick: () => app.go(Object.fromEntries([...FILTERS, "open"].map((name) => [name, null]))) }),
    ].filter(Boolean));
    live.textContent = isLive ? "Pause the list" : "Continue the list";
    const field = form.elements.q;
    if (field !== document.activeElement && field.value !== value("q")) field.value = value("q");
  }

  function typed(event) {
    clearTimeout(typing);
    const { value } = event.target;
    typing = setTimeout(() => app.go({ q: value.trim(), open: null }, "requests", { replace: true }), TYPING_MS);
  }

  function pause() {
    isLive = !isLive;
    renderForm();
    if (isLive) follow();
  }

  // --- Table -----------------------------------------------------------------------------------------------------------------

  function render() {
    renderForm();
    const shown = [...requests.values()];
    const open = app.state.query.get("open");
    const now = running ? `${count(running, "request")} running now. ` : "";
    const filtered = FILTERS.some((name) => app.state.query.get(name));
    const fit = filtered ? ` that match${shown.length === 1 ? "es" : ""} the filters` : "";
    const words = shown.length ? `The last ${count(shown.length, "request").replace(/^1 /, "")}${fit}${next ? "; there are older ones" : ""}.` : asked === query() && `No request${app.admin ? "" : " of yours"} ${filtered ? "matches the filters" : "yet"}.`;
    const kept = keptSince && words ? ` Kept since ${time(keptSince, Date.now() / 1000)}; older numbers are in History.` : "";
    say(status, failure || `${now}${words || ""}${kept}`);
    status.classList.toggle("bad", Boolean(failure));
    const head = (text, wide) => el("th", { scope: "col", class: wide && "wide", text });
    fill(list, [el("table", { class: "requests" },
      el("caption", { text: "The last requests, the last ended first" }),
      el("thead", {}, el("tr", {}, head("ended"), head("user"), head("model"), head("credential", true), head("status"),
        head("first byte", true), head("total", true), head("tokens", true), head("cost"))),
      el("tbody", {}, ...shown.flatMap((one) => [row(one, open === one.id), open === one.id && el("tr", { key: `${one.id}/more`, id: "open-request", class: "more" },
        el("td", { colspan: COLUMNS }, ...details(one)))].filter(Boolean))))]);
    if (open !== scrolled && requests.has(open)) list.querySelector("tr.open")?.scrollIntoView({ block: "nearest" });
    if (!open || requests.has(open)) scrolled = open;
    fill(more, next && shown.length < MOST ? [el("button", { type: "button", text: `Show ${PAGE} more`, onclick: older })] : []);
  }

  // A client that disconnects is no failure; a response that broke off is one, whatever its status.
  const failed = (one) => Boolean(one.error) || (one.status >= 400 && one.status !== LEFT);
  const dollars = (amount) => (amount > 0 && amount < 1 ? small : large).format(amount);
  const cost = (one) => (one.usd === null || one.usd === undefined ? "–" : dollars(one.usd));
  const endOf = (one) => one.at + one.seconds; // the order of the list
  // Without a date, a time is of today.
  const newer = (at) => (new Date(at * 1000).toDateString() === new Date().toDateString() ? moment : dated).format(new Date(at * 1000));

  function row(one, isOpen) {
    const retried = one.attempts.length > 1;
    return el("tr", { key: one.id, class: isOpen && "open" },
      el("th", { scope: "row" }, el("button", {
        type: "button", class: "link", "aria-expanded": String(isOpen), "aria-controls": isOpen && "open-request",
        onclick: () => app.go({ open: isOpen ? null : one.id }, "requests", { replace: true }),
      }, el("time", { datetime: new Date(endOf(one) * 1000).toISOString(), text: newer(endOf(one)) }))),
      el("td", { class: "text", text: one.user }),
      el("td", { class: "text" }, el("span", { text: one.requested }), one.model && one.model !== one.requested && el("span", { class: "soft", text: ` → ${one.model}` })),
      el("td", { class: "text wide", text: (retried && route(one.attempts)) || one.credential || "–" }),
      el("td", { class: failed(one) && "bad" }, one.error === "interrupted" ? `${one.status} broken off` : String(one.status), retried && el("span", { class: "soft tries", text: ` ${one.attempts.length} attempts` })),
      el("td", { class: "wide", text: seconds(one.first_byte) }),
      el("td", { class: "wide", text: seconds(one.seconds) }),
      el("td", { class: "wide", text: short.format(tokens(one)) }),
      el("td", { text: cost(one) }));
  }

  function details(one) {
    const fact = (title, ...children) => children.filter(Boolean).length > 0 && el("div", {}, el("dt", { text: title, title: HINTS[title] }), el("dd", {}, ...children));
    const narrowing = (name, value) => value && el("button", { type: "button", class: "link", "aria-label": `Show only ${name} ${value}`, text: value, onclick: () => app.go({ [name]: value, open: null }) });
    return [
      el("dl", { class: "facts" },
        fact("arrived", exact.format(new Date(one.at * 1000))),
        fact("user", narrowing("user", one.user)),
        fact("groups", one.groups?.join(", ")),
        fact("project", one.project),
        fact("requested", narrowing("model", one.requested)),
        fact("responded", one.served),
        fact("lane", narrowing("lane", one.lane)),
        fact("credential", narrowing("credential", one.credential)),
        fact("rule", narrowing("rule", one.rule)),
        fact("status", `${one.status}${one.error ? `: ${one.error}` : ""}`),
        fact("first byte", seconds(one.first_byte)),
        fact("total", seconds(one.seconds)),
        fact("length", one.bytes !== null && one.bytes !== undefined && bytes(one.bytes)),
        fact("tokens", `${whole.format(one.input)} fresh, ${whole.format(one.cache_read)} cached, ${whole.format(one.cache_write)} written, ${whole.format(one.output)} output`),
        fact("cost", one.usd === null || one.usd === undefined ? "not known" : dollars(one.usd)),
        fact("request-id", one.request_id && el("code", { text: one.request_id }))),
      el("h3", { text: "Attempts" }),
      one.attempts.length > 0 ? el("ol", { class: "attempts" }, ...one.attempts.map((attempt) => el("li", { class: attempt.why && "bad" },
        el("strong", { text: attempt.target }), el("span", { text: plain(attempt.why ?? "") || (failed(one) ? "failed" : "responded") }), el("span", { class: "soft", text: seconds(attempt.seconds) }))))
        : el("p", { class: "soft", text: "none: the proxy itself responded" }),
    ];
  }

  renderForm();
  const stop = app.every(REFRESH_MS, follow);
  return {
    // New data of the pool changes nothing here; another address does.
    update() {
      if (address === `${app.state.query}`) return;
      address = `${app.state.query}`;
      if (asked === query()) render(); // only what is open has changed
      else {
        requests = new Map();
        next = null;
        renderForm();
        restart();
      }
    },
    unmount() {
      ended = true;
      clearTimeout(typing);
      stop();
    },
  };
}
