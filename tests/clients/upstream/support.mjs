// The command line of agent-relay, which finds the program under test where it looks for its own broker.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { PROGRAM, atEnd, isAlive, until, within } from '../support.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const CLI = path.join(here, 'node_modules/agent-relay/dist/cli/index.js');
/** The broker of agent-relay itself; not there on other machines. */
export const UPSTREAM = path.join(here, 'node_modules/@agent-relay/broker-linux-x64/bin/agent-relay-broker');
/** Whatever of agent-relay is imported by files of a test. */
export const MODULES = path.join(here, 'node_modules');
/** How long a command may take: a whole Node starts for each. */
const COMMAND = 60_000;

/** A project folder, and what its commands find in their environment. */
export function project(dir) {
  const at = path.join(dir, 'project');
  const bin = path.join(dir, 'bin');
  const home = path.join(dir, 'home');
  for (const folder of [at, bin, home]) fs.mkdirSync(folder, { recursive: true });
  const broker = path.join(bin, 'agent-relay-broker');
  fs.symlinkSync(PROGRAM, broker);
  const env = {
    PATH: process.env.PATH,
    LANG: 'C.UTF-8',
    HOME: home,
    XDG_DATA_HOME: path.join(home, 'data'),
    BROKER_BINARY_PATH: broker,
    AGENT_RELAY_BIN: broker,
    AGENT_RELAY_TELEMETRY_DISABLED: '1',
    DO_NOT_TRACK: '1',
  };
  return { at, env, state: path.join(at, '.agentworkforce/relay') };
}

/** Runs a command to its end: `{ code, out, err }`. */
export function command({ at, env }, ...args) {
  return new Promise((ok) => {
    execFile(process.execPath, [CLI, ...args], { cwd: at, env, timeout: COMMAND }, (error, out, err) => {
      ok({ code: error ? error.code ?? error.signal : 0, out, err });
    });
  });
}

/** Runs a command that must end well; what it printed. */
export async function done(place, ...args) {
  const { code, out, err } = await command(place, ...args);
  assert.equal(code, 0, `agent-relay ${args.join(' ')} ended with ${code}: ${out}\n${err}`);
  return out;
}

/** Starts a command that stays; `line(pattern)` waits for something in what it prints. */
export function stays(t, { at, env }, ...args) {
  const child = spawn(process.execPath, [CLI, ...args], { cwd: at, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => { text += chunk; });
  const exited = new Promise((ok) => { child.once('exit', ok); });
  const end = async () => {
    child.kill('SIGTERM');
    await within(exited, `the end of ${args.join(' ')}`).catch(() => child.kill('SIGKILL'));
  };
  atEnd(t, end);
  return { child, end, exited, printed: () => text, said: (pattern) => until(() => pattern.exec(text), () => `${pattern} in ${text}`, COMMAND) };
}

/** What connection.json says, and calls of the local API. */
export function connection({ state }) {
  const facts = JSON.parse(fs.readFileSync(path.join(state, 'connection.json'), 'utf8'));
  const call = async (method, route, body) => {
    const answer = await fetch(`${facts.url}${route}`, {
      method,
      headers: { 'x-api-key': facts.api_key, 'content-type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await answer.text();
    assert.ok(answer.ok, `${method} ${route} answers ${answer.status}: ${text}`);
    return JSON.parse(text);
  };
  return { ...facts, call };
}

/** Ends what a command has left running in the background, by its id. */
export function endLater(t, pid) {
  atEnd(t, () => {
    if (isAlive(pid)) process.kill(pid, 'SIGKILL');
  });
}

/** A terminal in which commands run. */
export function terminal(t, { at, env }) {
  const socket = `relay-tests-${process.pid}-${Math.random().toString(36).slice(2)}`;
  const tmux = (...args) => new Promise((ok, no) => {
    execFile('tmux', ['-L', socket, ...args], { env: { ...env, TERM: 'xterm-256color' } }, (error, out) => (error ? no(error) : ok(out)));
  });
  atEnd(t, () => tmux('kill-server').catch(() => {}));
  const screen = (name) => tmux('capture-pane', '-p', '-t', name);
  return {
    run: (name, ...args) => tmux('new-session', '-d', '-s', name, '-x', '100', '-y', '30', '-c', at,
      `${process.execPath} ${CLI} ${args.join(' ')}; echo ended with $?; sleep 600`),
    type: (name, ...keys) => tmux('send-keys', '-t', name, ...keys),
    shows: (name, pattern) => until(async () => pattern.test(await screen(name)), `${pattern} on the screen of ${name}`, COMMAND),
  };
}
