// A writer (see writers.py) by node-postgres with its default settings: node writer.js KIND
"use strict";
const fs = require("fs");
const { performance } = require("perf_hooks");
const { Client } = require("pg");

const kind = process.argv[2];
const env = process.env;
const [run, client] = [Number(env.WRITER_RUN), Number(env.WRITER_CLIENT)];
const shape = env.WRITER_SHAPE;
const tls = env.PGSSLMODE === "disable" ? {} : { ssl: { rejectUnauthorized: false } };
delete env.PGSSLMODE;

const attempts = [], connects = [];
let isOver = false, current = null, connectBegan = null;

const now = () => (performance.timeOrigin + performance.now()) / 1e3;
const pause = (name) => new Promise((done) => setTimeout(done, Number(env[name]) * 1e3));
const told = (error) => error ? [error.code || null, String(error.message).trim().split("\n")[0].slice(0, 200)]
                              : [null, null];

function connected(state, error) {
  connects.push([connectBegan, now(), state, ...told(error)]);
  connectBegan = null;
}

function ended(state, error) {
  attempts.push([attempts.length + 1, current.begin, now(), current.wait, state, ...told(error)]);
  current = null;
}

async function connect() {
  const made = new Client({ ...tls });
  made.isLost = false;
  made.on("error", () => { made.isLost = true; });
  made.on("end", () => { made.isLost = true; });
  connectBegan = now();
  try {
    await made.connect();
  } catch (error) {
    connected("failed", error);
    throw error;
  }
  connected("ok");
  return made;
}

async function statement(connection, text, values) {
  current.statement = now();
  try {
    return await connection.query(text, values);
  } finally {
    current.wait = Math.max(current.wait, now() - current.statement);
    current.statement = null;
  }
}

async function write(connection) {
  const number = attempts.length + 1;
  const isTransaction = shape === "transactions";
  if (isTransaction)
    await statement(connection, "begin");
  for (let part = 1; part <= (isTransaction ? 2 : 1); part++) {
    if (kind === "node-simple")
      await statement(connection,
        `insert into bench_rows (run, client, number, part) values (${run}, ${client}, ${number}, ${part})`);
    else
      await statement(connection, "insert into bench_rows (run, client, number, part) values ($1, $2, $3, $4)",
        [run, client, number, part]);
    if (isTransaction)
      await pause("WRITER_THINK");
  }
  if (isTransaction)
    await statement(connection, "commit");
}

// An error without SQLSTATE is the connection's; of the others these classes are.
const isEnd = (error) => !error.code || !/^[0-9A-Z]{5}$/.test(error.code) || /^(08|57P0)/.test(error.code);

async function usable(connection, error) {
  if (!connection)
    return null;
  try {
    if (shape !== "reconnect" && !connection.isLost && !isEnd(error)) {
      if (shape === "transactions")
        await connection.query("rollback");
      return connection;
    }
  } catch (again) {
    // as if it were lost
  }
  connection.end().catch(() => {});
  return null;
}

async function work() {
  let connection = null;
  while (!isOver) {
    await pause("WRITER_PAUSE");
    try {
      connection = connection || await connect();
      current = { begin: now(), wait: 0, statement: null };
      await write(connection);
      ended("ok");
      if (shape === "reconnect") {
        await connection.end();
        connection = null;
      }
    } catch (error) {
      if (current)
        ended("failed", error);
      connection = await usable(connection, error);
      await pause("WRITER_ERROR_PAUSE");
    }
  }
}

function save() {
  if (current) {
    if (current.statement)
      current.wait = Math.max(current.wait, now() - current.statement);
    ended("hung", { message: "no answer" });
  }
  if (connectBegan !== null)
    connected("hung", { message: "no answer to connecting" });
  fs.writeFileSync(env.WRITER_RESULT, JSON.stringify({ client, kind, attempts, connects }));
  process.exit(0);
}

process.on("SIGTERM", () => {
  isOver = true;
  setTimeout(save, 2000);
});
work().then(save, (error) => {
  console.error(error);
  process.exit(1);
});
