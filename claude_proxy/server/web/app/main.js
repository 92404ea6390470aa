// The shell of the page: the token, the views, the address bar and the requests for data. A view is a module with
// `mount(root, app)`, which returns `{update(), unmount()}`; `update` runs after new data and after a change of the address.

import { fill, say } from "./dom.js";
import { ZONE, clock, dated, day } from "./format.js";
import * as overview from "./overview.js";

const REFRESH_MS = 5000;
const TOKEN = "claude-proxy-token";
const HEADER = "x-litellm-api-key";
const VIEWS = {
  overview: { title: "Overview", load: async () => overview },
  credentials: { title: "Credentials", load: () => import("./credentials.js") },
  history: { title: "History", load: () => import("./history.js") },
  requests: { title: "Requests", load: () => import("./requests.js") },
  budgets: { title: "Budgets", load: () => import("./budgets.js") },
};
const FIRST = "overview";
const byId = (id) => document.getElementById(id);
// The page's path, with the data at the same path and below it.
const BASE = location.pathname.replace(/\/+$/, "");
const needsToken = document.body.dataset.needsToken === "yes";

let mounted = null; // the view that is shown, and its name
let respondedAt = 0;
let latest = null; // the last report, and how far the proxy's clock is ahead of the browser's, in seconds
let ahead = 0;
let polling = null; // the request for the data that is under way
const known = new Map(); // the tag and the data of the last response, by path

class HttpError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const token = () => sessionStorage.getItem(TOKEN);

const app = {
  state: parse(),
  data: null,
  // Whether the viewer has the master key.
  get admin() { return Boolean(app.data?.viewer.sees_all_users); },
  // The address of a view: href("history", {by: "user", model: ["a", "b"]}).
  href(view, parameters = {}) { return address(view, new URLSearchParams(pairs(parameters))); },
  // Changes parameters of the address: null, "" and [] remove one, an array repeats it. Another view starts without any.
  go(changes, view = app.state.view, { replace = false } = {}) {
    const query = new URLSearchParams(view === app.state.view ? app.state.query : "");
    for (const name of Object.keys(changes)) query.delete(name);
    for (const [name, value] of pairs(changes)) query.append(name, value);
    const target = address(view, query);
    if (target === location.hash) return;
    history[replace ? "replaceState" : "pushState"](null, "", target);
    moved();
  },
  // Requests a path below the page; returns the response if it is a success, else throws. A wrong token ends at the login.
  async fetch(path = "", query = null, options = {}) {
    const sent = token();
    const headers = { accept: "application/json", ...(sent ? { [HEADER]: sent } : {}), ...options.headers };
    const target = `${BASE}${path && `/${path}`}${query && `${query}` ? `?${query}` : ""}`;
    const response = await fetch(target, { cache: "no-store", credentials: "omit", ...options, headers });
    if (token() !== sent) throw new HttpError(0, "The token was replaced meanwhile."); // and the view with it
    if (response.status === 401) {
      showLogin(sent ? "That is not a token of this proxy." : "");
      throw new HttpError(401, "A token is needed.");
    }
    if (!response.ok && response.status !== 304) throw new HttpError(response.status, await messageOf(response));
    return response;
  },
  // Returns the data of a path, the same object as before if it has not changed.
  async get(path = "", query = null, options = {}) {
    const place = `${path}?${query ?? ""}`;
    const before = known.get(place);
    const response = await app.fetch(path, query, { ...options, headers: before ? { "if-none-match": before.tag } : {} });
    if (response.status === 304) return before.data;
    const data = await response.json();
    const tag = response.headers.get("etag");
    known.delete(place);
    if (tag) known.set(place, { tag, data });
    if (known.size > 20) known.delete(known.keys().next().value);
    return data;
  },
  // Sends a change, then requests the data; returns the response's content, or throws an error in words.
  async post(path, body) {
    try {
      const response = await app.fetch(path, null, {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
      });
      return await response.json();
    } finally {
      known.delete("?"); // the next report must have the change
      refresh();
    }
  },
  // Runs a function now and then, not in a hidden tab, and at once when the tab is shown again. Returns what ends it.
  every(milliseconds, work) {
    let timer = 0;
    let ended = false;
    const run = async () => {
      clearTimeout(timer);
      if (document.hidden || ended) return;
      await work();
      clearTimeout(timer);
      if (!ended) timer = setTimeout(run, milliseconds);
    };
    const shown = () => { if (!document.hidden) run(); };
    document.addEventListener("visibilitychange", shown);
    timer = setTimeout(run, milliseconds);
    return () => {
      ended = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
    };
  },
};

const pairs = (parameters) => Object.entries(parameters).flatMap(([name, value]) => [value].flat()
  .filter((one) => one !== null && one !== undefined && one !== "").map((one) => [name, one]));

function address(view, query) {
  return `#/${view === FIRST ? "" : view}${`${query}` && `?${query}`}`;
}

function parse() {
  const [path, ...rest] = location.hash.replace(/^#\/?/, "").split("?");
  return { view: Object.hasOwn(VIEWS, path) ? path : FIRST, query: new URLSearchParams(rest.join("?")) };
}

async function messageOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `HTTP ${response.status}`;
  }
}

// --- Views -------------------------------------------------------------------------------------------------------------------

function moved() {
  app.state = parse();
  for (const link of byId("tabs").querySelectorAll("a")) {
    if (link.dataset.view === app.state.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `claude-proxy: ${VIEWS[app.state.view].title.toLowerCase()}`;
  if (app.data) show();
}

async function show() {
  const { view } = app.state;
  if (mounted?.name === view) return mounted.view?.update();
  if (mounted) scrollTo(0, 0);
  mounted?.view?.unmount?.();
  const root = document.createElement("section");
  root.id = `view-${view}`;
  root.setAttribute("aria-label", VIEWS[view].title);
  const here = { name: view, view: null };
  mounted = here;
  try {
    const { mount } = await VIEWS[view].load();
    if (mounted !== here) return; // another view was chosen while this one was loaded
    byId("view").replaceChildren(root);
    here.view = mount(root, app);
    here.view.update();
  } catch (error) {
    if (mounted !== here) return;
    mounted = null;
    fill(byId("view"), [{ tag: "p", attributes: { class: "note", text: `This view could not be loaded (${error.message}). Reload the page.` }, children: [] }]);
  }
}

function leave() {
  mounted?.view?.unmount?.();
  mounted = null;
  byId("view").replaceChildren();
}

// --- Data --------------------------------------------------------------------------------------------------------------------

// Requests the data, unless a request is under way; then once more after that.
async function refresh() {
  if (polling) {
    await polling;
    if (polling) return polling;
  }
  polling = report().finally(() => { polling = null; });
  return polling;
}

async function report() {
  if (!token() && needsToken) return showLogin("");
  try {
    app.data = await app.get();
  } catch (error) {
    if (error.status === 401 || error.status === 0) return;
    const since = respondedAt ? `; data from ${clock.format(new Date(respondedAt))}` : "";
    say(byId("freshness"), `no response from the proxy (${error.message})${since}`);
    byId("freshness").className = "stale";
    return;
  }
  respondedAt = Date.now();
  // A report that has not changed is not sent again, but its time goes on.
  if (app.data !== latest) ahead = app.data.now - respondedAt / 1000;
  latest = app.data;
  app.data.now = respondedAt / 1000 + ahead;
  byId("login").hidden = true;
  byId("view").hidden = byId("tabs").hidden = byId("store").hidden = false;
  byId("forget").hidden = !token();
  say(byId("freshness"), "live");
  byId("freshness").className = "live";
  frame();
  await show();
}

// What is the same in every view.
function frame() {
  const { store, pool } = app.data;
  const started = dated.format(new Date(store.process_started * 1000));
  const source = !store.kind ? `Not shared: state of one process, running since ${started}`
    : store.unavailable ? `${store.kind} is unavailable: state of one process, running since ${started}`
      : `Shared by all workers through ${store.kind}`;
  byId("zone").hidden = !ZONE;
  say(byId("zone"), `times in ${ZONE}`);
  say(byId("store"), `${source}. ${ZONE && `Times in ${ZONE}, as this browser has it. `}${store.usage_since ? `Usage since ${day(store.usage_since)}.` : "No usage yet."}`);
  const problems = [...pool.problems, ...(store.unavailable ? [`${store.kind} is unavailable; other workers may have newer data.`] : [])];
  byId("problem").hidden = problems.length === 0;
  say(byId("problem"), problems.join(" "));
}

function showLogin(message) {
  sessionStorage.removeItem(TOKEN);
  known.clear();
  app.data = null;
  leave();
  byId("view").hidden = byId("tabs").hidden = byId("store").hidden = byId("forget").hidden = byId("problem").hidden = byId("zone").hidden = true;
  byId("login").hidden = false;
  byId("login-error").textContent = message;
  say(byId("freshness"), "");
  byId("token").focus();
}

// --- Controls ----------------------------------------------------------------------------------------------------------------

function showTheme() {
  byId("theme").lastElementChild.textContent = window.theme.choice;
  byId("theme").setAttribute("aria-label", `Theme: ${window.theme.choice}`);
}

byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [button] = byId("login").getElementsByTagName("button");
  sessionStorage.setItem(TOKEN, byId("token").value.trim());
  byId("token").value = "";
  byId("login-error").textContent = "";
  byId("freshness").className = "";
  say(byId("freshness"), "Checking ...");
  button.textContent = "Checking ...";
  await refresh();
  button.textContent = "Sign in";
});
byId("forget").addEventListener("click", () => showLogin(""));
byId("theme").addEventListener("click", () => {
  window.theme.next();
  showTheme();
});
byId("skip").addEventListener("click", () => byId("view").focus());
window.addEventListener("popstate", moved);
showTheme();
moved();
app.every(REFRESH_MS, refresh);
refresh();
