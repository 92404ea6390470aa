#!/usr/bin/env node
// Prisma's query engine as the Python client knows it (version 5, a program that speaks GraphQL over HTTP), made of Prisma's own
// engine in WebAssembly (version 6, JSON, on a driver of Node's): for machines that cannot download the program. For tests.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { PrismaPg } from "@prisma/adapter-pg";
import { bindAdapter } from "@prisma/driver-adapter-utils";
import pg from "pg";
import { parse, valueFromASTUntyped } from "graphql";

if (process.argv.includes("--version")) {
  console.log(`query-engine ${process.env.PRISMA_EXPECTED_ENGINE_VERSION ?? "stand-in"}`);
  process.exit(0);
}

const require = createRequire(import.meta.url);
const bindings = require("@prisma/client/runtime/query_engine_bg.postgresql.js");
const { wasm } = require("@prisma/client/runtime/query_engine_bg.postgresql.wasm-base64.js");
const { instance } = await WebAssembly.instantiate(Buffer.from(wasm, "base64"), {
  "./query_engine_bg.js": bindings,
});
bindings.__wbg_set_wasm(instance.exports);
instance.exports.__wbindgen_start?.();

const datamodel = readFileSync(process.env.PRISMA_DML_PATH, "utf8");
const overrides = JSON.parse(process.env.OVERWRITE_DATASOURCES ?? "[]");
const url = overrides[0]?.url ?? process.env.DATABASE_URL;

// PostgreSQL's own type for names (19), which its catalogue is full of, is a text (25) that the driver's adapter does not know.
class Pool extends pg.Pool {
  async query(...given) {
    const result = await super.query(...given);
    for (const field of result.fields ?? []) if (field.dataTypeID === 19) field.dataTypeID = 25;
    return result;
  }
}
const adapter = await new PrismaPg(new Pool({ connectionString: url, max: 5 })).connect();
const engine = new bindings.QueryEngine(
  {
    datamodel,
    logLevel: "error",
    logQueries: false,
    enableTracing: false,
    configDir: ".",
    env: { DATABASE_URL: url },
    ignoreEnvVarErrors: true,
  },
  () => {},
  bindAdapter(adapter),
);
await engine.connect("{}", "1");

// --- a query: GraphQL's text in, Prisma's JSON out -----------------------------------------------------------------------------

const ACTIONS = [
  "findUnique", "findFirst", "findMany", "createOne", "createMany", "updateOne", "updateMany", "deleteOne", "deleteMany",
  "upsertOne", "aggregate", "groupBy",
];

function named(field) {
  if (field === "queryRaw" || field === "executeRaw") return { action: field };
  const start = ACTIONS.find((action) => field.startsWith(action));
  const orThrow = field.endsWith("OrThrow") ? "OrThrow" : "";
  return { action: start + orThrow, modelName: field.slice(start.length, field.length - orThrow.length) };
}

const argumentsOf = (node) => Object.fromEntries(node.arguments.map((one) => [one.name.value, valueFromASTUntyped(one.value)]));

function selection(node) {
  const chosen = {};
  for (const field of node.selectionSet?.selections ?? [])
    chosen[field.name.value] =
      field.selectionSet || field.arguments.length ? { arguments: argumentsOf(field), selection: selection(field) } : true;
  return chosen;
}

// The program takes a text for JSON where a field is of that type; the other wants to be told.
const jsonFields = {};
for (const [, model, fields] of datamodel.matchAll(/^model (\w+) \{\n(.*?)^\}/gms))
  jsonFields[model] = new Set([...fields.matchAll(/^\s+(\w+)\s+Json\b/gm)].map(([, name]) => name));

function withJson(value, names, isJson = false) {
  if (typeof value === "string") return isJson ? { $type: "Json", value } : value;
  if (Array.isArray(value)) return value.map((one) => withJson(one, names, isJson));
  if (value === null || typeof value !== "object") return value;
  const changed = ([name, one]) => [name, withJson(one, names, isJson || names.has(name))];
  return Object.fromEntries(Object.entries(value).map(changed));
}

function translated(text) {
  const [field] = parse(text).definitions[0].selectionSet.selections;
  const request = named(field.name.value);
  const given = withJson(argumentsOf(field), jsonFields[request.modelName] ?? new Set());
  return { ...request, query: { arguments: given, selection: selection(field) } };
}

// --- an answer: values without the tags of Prisma's JSON ---------------------------------------------------------------------

function plain(value) {
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value;
  if ("$type" in value) return value.$type === "Raw" ? value.value : plain(value.value);
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)]));
}

function rawValue(type, value) {
  if (value === null) return { prisma__type: "null", prisma__value: null };
  if (type.endsWith("-array"))
    return { prisma__type: "array", prisma__value: value.map((one) => rawValue(type.slice(0, -6), one)) };
  return { prisma__type: type, prisma__value: type === "json" && typeof value === "string" ? JSON.parse(value) : value };
}

const rawRows = ({ columns, types, rows }) =>
  rows.map((row) => Object.fromEntries(row.map((value, place) => [columns[place], rawValue(types[place], value)])));

function answered(answer) {
  if (answer.errors) return { errors: answer.errors };
  const [result] = Object.values(answer.data);
  return { data: { result: result?.columns ? rawRows(result) : plain(result) } };
}

// --- the server ---------------------------------------------------------------------------------------------------------------

async function run(body, transaction) {
  if (!body.batch) return answered(JSON.parse(await engine.query(JSON.stringify(translated(body.query)), "{}", transaction, "1")));
  const batch = body.batch.map(({ query }) => translated(query));
  const request = { batch, ...(body.transaction ? { transaction: {} } : {}) };
  const answer = JSON.parse(await engine.query(JSON.stringify(request), "{}", transaction, "1"));
  return answer.errors ? answer : { batchResult: answer.batchResult.map(answered) };
}

async function respond(request, text) {
  if (request.method === "GET") return { status: "ok" };
  const [, , id, verb] = request.url.split("/");
  if (id === "start") return JSON.parse(await engine.startTransaction(text, "{}", "1"));
  if (verb === "commit") return JSON.parse(await engine.commitTransaction(id, "{}", "1"));
  if (verb === "rollback") return JSON.parse(await engine.rollbackTransaction(id, "{}", "1"));
  return run(JSON.parse(text), request.headers["x-transaction-id"]);
}

const port = Number(process.argv[process.argv.indexOf("-p") + 1]);
createServer(async (request, response) => {
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) text += chunk;
  let answer;
  try {
    answer = await respond(request, text);
  } catch (error) {
    console.error(`query engine: ${error.message}: ${text.slice(0, 2000)}`);
    answer = { errors: [{ error: String(error.message), user_facing_error: { message: String(error.message) } }] };
  }
  if (process.env.STANDIN_DEBUG && answer.errors) console.error(`query engine: ${JSON.stringify(answer)}: ${text.slice(0, 3000)}`);
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify(answer));
}).listen(port, "localhost");
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
// The Python client's process may end without a word.
const parent = process.ppid;
setInterval(() => process.ppid === parent || process.exit(0), 1000).unref();
