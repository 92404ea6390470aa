// The view "Budgets": each budget with what is spent of it, and the usage of each user.

import { ask, field } from "./dialog.js";
import { el, fill, say } from "./dom.js";
import { REPEATED, dated, grade, limit, short, tokens, usd, whole } from "./format.js";
import { bar } from "./pool.js";

const HEADS = ["requests today", "tokens today", "errors today", "requests, 7 days", "tokens, 7 days", "errors, 7 days"];
const AMOUNTS = "They apply on top of config.yaml; none is no limit. Without amounts, config.yaml applies again.";
const UNTIL = "When the change ends by itself: tomorrow, a date, a time, or both. Empty: it applies until you change it again.";

export function mount(root, app) {
  fill(root, [
    el("div", { class: "view-head" }, el("h2", { text: "Budgets" }), el("p", { class: "soft", id: "budgets-summary" }),
      el("button", { type: "button", class: "primary", id: "change-budget", text: "Change a budget", hidden: true })),
    el("p", { class: "outcome", id: "budget-outcome", role: "status" }),
    el("div", { class: "card scroll" }, el("table", { id: "budgets" })),
    el("p", { class: "hint", id: "budgets-hint" }),
    el("h2", { id: "users-title" }),
    el("div", { class: "card scroll" }, el("table", { id: "users" })),
    el("p", { class: "hint", id: "users-hint" }),
  ]);
  const outcome = root.querySelector("#budget-outcome");

  root.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const result = await change(app, button.dataset.scope ?? "");
    if (!result) return;
    const done = result.done === "set" ? `The budget of ${result.scope} was changed.` : `For ${result.scope}, config.yaml applies again.`;
    outcome.className = `outcome ${result.warning ? "warn" : "good"}`;
    outcome.textContent = [done, result.warning].filter(Boolean).join(" ");
  });

  function update() {
    const { data, admin } = app;
    say(root.querySelector("#budgets-summary"), data.budgets.length ? `In USD, by the days of ${data.budgets[0].timezone}, the fullest first` : "");
    say(root.querySelector("#budgets-hint"), overlaps(data.budgets));
    root.querySelector("#change-budget").hidden = !admin;
    fill(root.querySelector("#budgets"), budgets(inOrder(data.budgets), admin));
    say(root.querySelector("#users-title"), admin ? "Users" : "You");
    fill(root.querySelector("#users"), users(data.users, app));
    say(root.querySelector("#users-hint"), data.users.some((row) => row.week.errors) ? REPEATED : "");
  }

  return { update, unmount() {} };
}

function change(app, scope) {
  const own = app.data.budgets.filter((one) => one.scope === scope).map((one) => `${one.period}=${one.limit}`);
  return ask({
    title: scope ? `Budget of ${scope}` : "Change a budget",
    action: "Change",
    fields: [
      ...field("scope", "Scope", { value: scope, readonly: Boolean(scope), placeholder: "user:NAME, group:NAME or all", required: true }),
      ...field("amounts", "Amounts in USD", { placeholder: own.join(" ") || "day=10 month=150" }, AMOUNTS),
      ...field("until", "Until", { placeholder: "tomorrow" }, UNTIL),
    ],
    act: ({ elements }) => {
      const words = elements.amounts.value.split(/[\s,]+/).filter(Boolean).map((text) => text.split("="));
      const limits = Object.fromEntries(words.map(([period, amount]) => [period, amount === "none" ? null : amount ?? ""]));
      return app.post("../budget", { scope: elements.scope.value.trim(), limits, until: elements.until.value.trim() });
    },
  });
}

const head = (text, extra = "") => el("th", { scope: "col", class: extra, text });
const nothing = (columns, text) => [el("tr", {}, el("td", { colspan: columns, class: "soft", text }))];

// The fullest first; of equal ones those of everyone, of groups, of users.
function inOrder(rows) {
  const place = ({ scope }) => ["all", "group", "user"].indexOf(scope.split(":")[0]);
  return [...rows].sort((a, b) => b.spent / b.limit - a.spent / a.limit || place(a) - place(b) || a.scope.localeCompare(b.scope));
}

// What is not obvious of the sums: that they overlap.
function overlaps(rows) {
  const groups = rows.filter(({ scope }) => scope.startsWith("group:")).length;
  return [
    rows.some(({ scope }) => scope === "all") && rows.length > 1 && "The budget of all includes what groups and users spend.",
    groups > 1 && "A user with several groups counts in each of them.",
  ].filter(Boolean).join(" ");
}

function budgets(rows, admin) {
  const heads = [head("budget"), head("spent"), head("used"), head("resets", "wide"), head("notes", "wide text")];
  return [
    el("caption", { text: "Budgets: the amount, what is spent of it, and when it resets" }),
    el("thead", {}, el("tr", {}, ...heads, admin && el("td", { class: "wide" }))),
    el("tbody", {}, ...(rows.length ? rows.map((row) => budget(row, admin)) : nothing(heads.length + Number(admin), "No budget applies."))),
  ];
}

function budget(one, admin) {
  const share = one.spent / one.limit;
  const name = `${one.scope}, ${one.period}`;
  const before = one.configured === null ? "changed" : `config.yaml: ${limit.format(one.configured)}`;
  const until = one.until && `until ${dated.format(new Date(one.until * 1000))}`;
  const notes = [one.soft && "soft", one.override && before, until].filter(Boolean).join(", ");
  return el("tr", { key: name }, el("th", { scope: "row", text: name }),
    el("td", { class: "spent" }, usd.format(one.spent), el("span", { text: ` of ${limit.format(one.limit)}` })),
    el("td", {}, el("div", { class: "used" }, bar(name, share, `${one.percent} %`), el("span", { class: grade(share), text: `${one.percent} %` }))),
    el("td", { class: "wide", text: dated.format(new Date(one.resets_at * 1000)) }), el("td", { class: "wide text", text: notes }),
    admin && el("td", { class: "wide" }, el("button", { type: "button", class: "quiet", "data-scope": one.scope, "aria-label": `Change the budget of ${one.scope}`, text: "Change" })));
}

function users(rows, app) {
  const cells = (sums, extra = "") => [
    el("td", { class: extra, text: whole.format(sums.requests) }),
    el("td", { class: extra, text: short.format(tokens(sums)) }),
    el("td", { class: `${extra}${sums.errors ? " bad" : ""}`, text: whole.format(sums.errors) }),
  ];
  return [
    el("caption", { text: "Users: requests, tokens and errors, today and in the last 7 days" }),
    el("thead", {}, el("tr", {}, head("user"), ...HEADS.map((text, place) => head(text, [1, 2, 5].includes(place) ? "wide" : "")))),
    el("tbody", {}, ...(rows.length ? rows.map((row) => {
      const [requests, ...today] = cells(row.today, "wide");
      const [week, used, errors] = cells(row.week);
      requests.attributes.class = "";
      errors.attributes.class += " wide";
      return el("tr", { key: row.name },
        el("th", { scope: "row" }, el("a", { href: app.href("history", { user: row.name }), text: row.name })), requests, ...today, week, used, errors);
    }) : nothing(7, "nothing yet"))),
  ];
}
