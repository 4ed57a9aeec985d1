// Starts the built program in folders of its own, gives tests the clients people use, and ends what it started.
// Nothing here decides whether a test passes.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { RelayCast } from '@relaycast/sdk';
import WebSocket from 'ws';

// The SDK takes the runtime's WebSocket, which Node has of its own only from version 22.
globalThis.WebSocket ??= WebSocket;

const REPOSITORY = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
/** The program under test. */
export const PROGRAM = process.env.RELAY_BROKER_BIN
  ?? path.join(process.env.CARGO_TARGET_DIR ?? path.join(REPOSITORY, 'target'), 'release/relay-broker');

/** How long anything may take before a test gives up on it, in ms. */
export const PATIENCE = 15_000;
/** A token of the right shape that no engine ever issued. */
export const BOGUS_NODE_TOKEN = `nt_live_${'0'.repeat(48)}`;

/** Waits for a promise, but not for ever; `what` says what did not come. */
export async function within(promise, what, ms = PATIENCE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms for ${typeof what === 'function' ? what() : what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Asks again until the answer is neither false nor empty nor an error, for states that announce themselves to nobody. */
export async function until(ask, what, ms = PATIENCE) {
  const end = Date.now() + ms;
  let last;
  for (;;) {
    try {
      last = await ask();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`waited ${ms} ms for ${what}; last answer: ${last instanceof Error ? last.stack : JSON.stringify(last)}`);
    await new Promise((ok) => { setTimeout(ok, 20); });
  }
}

const ends = new WeakMap();

/** Does this at the end of the test, the latest first: the runner's own `after` would stop engines before their clients. */
export function atEnd(t, end) {
  if (!ends.has(t)) {
    const stack = [];
    ends.set(t, stack);
    t.after(async () => {
      const errors = [];
      while (stack.length) await Promise.resolve().then(stack.pop()).catch((error) => errors.push(error));
      if (errors.length) throw errors[0];
    });
  }
  ends.get(t).push(end);
}

/** A folder that goes away after the test. */
export function folder(t) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'relay-clients-'));
  atEnd(t, () => fs.rmSync(dir, { recursive: true, force: true, maxRetries: 5 }));
  return dir;
}

const running = new Set();
// Also when a test run is cut short, by the ids of what was started here and nothing else.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

/** The program with these arguments, in an environment that holds nothing of the caller's but the path. */
class Program {
  constructor(t, args, { dir, env = {} }) {
    this.output = [];
    this.waiting = new Set();
    fs.mkdirSync(path.join(dir, 'home'), { recursive: true });
    this.child = spawn(PROGRAM, args, {
      cwd: dir,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env.PATH,
        LANG: 'C.UTF-8',
        HOME: path.join(dir, 'home'),
        XDG_DATA_HOME: path.join(dir, 'home', 'data'),
        AGENT_RELAY_NODE_HARNESSES: 'claude,cat',
        ...env,
      },
    });
    running.add(this.child);
    for (const stream of [this.child.stdout, this.child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => this.#heard(line));
    }
    this.exited = new Promise((ok) => {
      this.child.once('error', (error) => ok({ error }));
      this.child.once('exit', (code, signal) => ok({ code, signal }));
    });
    this.exited.then(() => running.delete(this.child));
    atEnd(t, () => this.stop().finally(() => this.kill()));
  }

  #heard(line) {
    this.output.push(line);
    for (const listener of this.waiting) listener(line);
  }

  /** What it printed, for messages about failures. */
  get printed() {
    return this.output.slice(-40).join('\n');
  }

  /** The first line that matches, printed already or yet to come. */
  async line(pattern) {
    const old = this.output.map((line) => pattern.exec(line)).find(Boolean);
    if (old) return old;
    let listener;
    const found = new Promise((ok) => {
      listener = (line) => {
        const match = pattern.exec(line);
        if (match) ok(match);
      };
      this.waiting.add(listener);
    });
    const died = this.exited.then((how) => { throw new Error(`${PROGRAM} ended ${JSON.stringify(how)}:\n${this.printed}`); });
    try {
      return await within(Promise.race([found, died]), () => `a line like ${pattern} in:\n${this.printed}`);
    } finally {
      this.waiting.delete(listener);
    }
  }

  /** As service managers do; it must end well. */
  async stop() {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill('SIGTERM');
    const { code, signal, error } = await within(this.exited, () => `${PROGRAM} to stop:\n${this.printed}`);
    assert.equal(code, 0, `stopped with ${code ?? signal ?? error}:\n${this.printed}`);
  }

  /** As a crash does. */
  async kill() {
    this.child.kill('SIGKILL');
    return within(this.exited, 'a killed program to be gone');
  }
}

/** An engine alone: `{ url, key }` and what a program has; `behave` is the version it plays. */
export async function startEngine(t, dir, { listen = '127.0.0.1:0', behave } = {}) {
  const program = new Program(t, [
    'engine', '--listen', listen, '--dir', path.join(dir, 'engine'), ...(behave ? ['--behave', behave] : []),
  ], { dir });
  const [, url, file] = await program.line(/RELAY_BASE_URL=(\S+) and RELAY_WORKSPACE_KEY_FILE to a copy of (\S+)/);
  const key = fs.readFileSync(file, 'utf8').trim();
  await program.line(/engine listening on/);
  return Object.assign(program, { url, key });
}

/**
 * A broker named `name` and what connection.json says about it. Without `engine` it brings one of its own. `agents` maps
 * names to command lines; with `agents` it returns only when they are ready for messages.
 */
export async function startBroker(t, dir, { name = 'box', engine, agents = {}, args = [], env } = {}) {
  const state = path.join(dir, name);
  const program = new Program(t, [
    'up', '--state-dir', state, '--name', name, '--grace', '1s',
    ...(engine ? ['--engine', engine.url, '--workspace-key', engine.key] : ['--engine-listen', '127.0.0.1:0']),
    ...Object.entries(agents).flatMap(([agent, command]) => ['--agent', `${agent}=${command}`]),
    ...args,
  ], { dir, env });
  await program.line(/API listening on/);
  const file = path.join(state, 'connection.json');
  const facts = JSON.parse(fs.readFileSync(file, 'utf8'));
  const broker = Object.assign(program, { name, state, file, ...facts });
  broker.api = (method, route, body) => localCall(broker, method, route, body);
  for (const agent of Object.keys(agents)) await ready(broker, agent);
  return broker;
}

async function localCall(broker, method, route, body) {
  const answer = await fetch(`${broker.url}${route}`, {
    method,
    headers: { 'x-api-key': broker.api_key, 'content-type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(PATIENCE),
  });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${route} answers ${answer.status}: ${text}`);
  return text ? JSON.parse(text) : undefined;
}

/** Until the agent's process runs and the workspace knows it as online. */
export async function ready(broker, agent) {
  const relay = workspace(broker);
  return until(async () => {
    const { agents } = await broker.api('GET', '/api/spawned');
    return agents.find(({ name, pid }) => name === agent && pid) && (await relay.agents.get(agent)).status !== 'offline';
  }, `${agent} to run and be online`);
}

/** The SDK as the holder of a workspace key has it. */
export function workspace({ engine_url: ofBroker, workspace_key: brokersKey, url, key }) {
  return new RelayCast({ apiKey: key ?? brokersKey, baseUrl: ofBroker ?? url, retryPolicy: { backoffMs: 50 } });
}

/** Until the engine calls the node live. */
export function live(relay, name) {
  return until(async () => (await relay.nodes.list({ name })).find((node) => node.name === name && node.live), `the node ${name} to be live`);
}

/** Registers an agent that people drive by the SDK: `{ me, token, id }`. */
export async function register(t, relay, name) {
  const { token, id } = await relay.agents.register({ name, type: 'agent' });
  const me = relay.as(token);
  atEnd(t, () => me.disconnect());
  return { me, token, id, name };
}

/** Connects, and collects the texts of the messages that arrive. */
export async function inbox(me) {
  const texts = [];
  const listeners = new Set();
  const take = (event) => {
    texts.push(event.message.text);
    for (const listener of listeners) listener();
  };
  me.connect();
  const open = new Promise((ok) => { me.on.connected(ok); });
  me.on.dmReceived(take);
  me.on.messageCreated(take);
  me.on.threadReply(take);
  me.on.groupDmReceived(take);
  await within(open, 'an SDK client to connect');
  return {
    texts,
    /** Until this text has come; all texts so far. */
    async upTo(text) {
      await within(new Promise((ok) => {
        const look = () => texts.includes(text) && ok();
        listeners.add(look);
        look();
      }), () => `${JSON.stringify(text)} after ${JSON.stringify(texts)}`);
      return [...texts];
    },
  };
}

/** A command line for an agent that appends every line it reads to a file. */
export function recorder(file) {
  return `sh -c 'cat >> ${file}'`;
}

/** Until the file holds this text; the whole file. */
export function written(file, text) {
  return until(() => {
    const all = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
    return all.includes(text) && all;
  }, () => `${JSON.stringify(text)} in ${file}`);
}

/** The given words in the order and number in which the text has them. */
export function inOrder(text, words) {
  return text.match(new RegExp(words.join('|'), 'g')) ?? [];
}

/** Whether a process is there. */
export function isAlive(pid) {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** Until an invocation has ended, well or not. */
export function ended(me, action, id) {
  return until(async () => {
    const invocation = await me.actions.getInvocation(action, id);
    return ['completed', 'failed'].includes(invocation.status) && invocation;
  }, `the end of ${action} ${id}`);
}

/** A program that serves actions of a broker: the whole protocol in a few lines. */
export async function sidecar(t, broker, handlers, { supervision } = {}) {
  const socket = new WebSocket(`${broker.url.replace('http', 'ws')}/api/fleet/ws`, { headers: { 'x-api-key': broker.api_key } });
  atEnd(t, () => socket.terminate());
  const waiting = new Map();
  let last = 0;
  const ask = (type, payload) => within(new Promise((ok, no) => {
    const id = `fleet_${last += 1}`;
    waiting.set(id, { ok, no });
    socket.send(JSON.stringify({ v: 2, type, request_id: id, payload }));
  }), `an answer to ${type}`);
  socket.on('message', async (text) => {
    const frame = JSON.parse(text);
    if (frame.type === 'invoke_handler') {
      const { invocation_id, name, input } = frame.payload;
      try {
        await ask('handler_result', { invocation_id, output: await handlers[name](input, ask) });
      } catch (error) {
        await ask('handler_result', { invocation_id, error: error.message });
      }
      return;
    }
    const { ok, no } = waiting.get(frame.request_id);
    if (frame.type === 'ok') ok(frame.payload.result);
    else no(Object.assign(new Error(frame.payload.message), frame.payload));
  });
  await within(new Promise((ok, no) => { socket.once('open', ok); socket.once('error', no); }), 'the sidecar to connect');
  assert.equal((await ask('hello', { client_name: 'test', client_version: '1' })).protocol_version, 2);
  const capabilities = Object.keys(handlers).map((name) => ({ name, kind: name.startsWith('spawn:') ? 'spawn' : 'action' }));
  assert.deepEqual(await ask('register_node', { manifest: { name: 'test', capabilities }, supervision }), { registered: true });
  assert.deepEqual(await ask('register_handlers', { names: Object.keys(handlers) }), { handlers_live: true });
  return { socket, ask };
}
