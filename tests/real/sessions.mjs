// How a CLI is started: with the model and the session that somebody wants, without a terminal, and going on with what was
// said before. Its command line, the model that is asked for, and its own files tell whether it did.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { randomUUID } from 'node:crypto';
import { execFileSync } from 'node:child_process';

import { until } from '../clients/support.mjs';
import { SHAPES } from './shapes.mjs';
import { later } from './world.mjs';

const { HarnessDriverClient } = await import(createRequire(new URL('../clients/package.json', import.meta.url)).resolve('@agent-relay/harness-driver'));

/** A model of each that is not its usual one. */
const MODELS = { claude: 'claude-haiku-4-5-20251001', codex: 'gpt-5-codex', gemini: 'gemini-2.5-pro', opencode: 'stand-in/two' };
const PROGRAMS = Object.keys(MODELS);

/** All files of the CLI's home, by their paths. */
function home(world) {
  const dir = path.join(world.dir, 'home');
  return fs.readdirSync(dir, { recursive: true }).map(String);
}

/** The arguments that the agent's process has. */
async function argv(world) {
  const { pid } = await world.state();
  return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
}

/** What is missing of these words, one behind the other, in a command line. */
const without = (line, ...words) => (line.join('\n').includes(words.join('\n')) ? [] : [`${words.join(' ')} is not in ${line.join(' ')}`]);

/** What is wrong about the model that was asked for. */
function asked(world) {
  const model = MODELS[world.cli].replace('stand-in/', '');
  return [...world.models.names].every((name) => name === model) ? [] : [`the model was ${[...world.models.names]} and not ${model}`];
}

async function tell(world, shape) {
  const message = await world.send(shape);
  if (await world.accepted(message)) await world.answered(message, 20_000);
  return message;
}

const first = (mark) => `first ${mark} please look at it.`;
const second = (mark) => `second ${mark} please look at it.`;

/** It is told its model. */
async function model(world) {
  await world.ready();
  await later(300);
  await tell(world, first);
  return [...without(await argv(world), '--model', MODELS[world.cli]), ...asked(world)];
}
model.begin = (world) => world.spawn('agent', { cli: world.launcher, cwd: world.project, model: MODELS[world.cli] });
model.only = PROGRAMS;

/** It is told its model and the id of its session, and everything arrives as it was said. */
async function begin(world) {
  const { id } = world;
  await world.ready();
  await later(300);
  for (const shape of ['s40', 'l40', 'wide', 'hostile']) await tell(world, SHAPES[shape]);
  const troubles = [...without(await argv(world), '--session-id', id), ...without(await argv(world), '--model', MODELS[world.cli]), ...asked(world)];
  const { sessionId, model: shown } = await world.state();
  if (sessionId !== id || shown !== MODELS[world.cli]) troubles.push(`it is shown with session ${sessionId} and model ${shown}`);
  if (!home(world).some((file) => file.includes(id.slice(0, 8)))) troubles.push(`it has not kept a session ${id}: ${home(world)}`);
  return troubles;
}
begin.begin = (world) => {
  world.id = randomUUID();
  return world.spawn('agent', { cli: world.launcher, cwd: world.project, model: MODELS[world.cli], sessionId: world.id });
};
begin.only = ['claude', 'gemini'];

/** How the sessions of those are found whose ids the broker does not know. */
const FIND = {
  codex: (world) => home(world).map((file) => /rollout-.*-([0-9a-f]{8}-[0-9a-f-]{27})\.jsonl$/.exec(file)?.[1]).find(Boolean),
  gemini: (world) => {
    const file = home(world).find((name) => /chats\/session-.*\.jsonl?$/.test(name));
    return file && /"sessionId":\s*"([^"]+)"/.exec(fs.readFileSync(path.join(world.dir, 'home', file), 'utf8'))?.[1];
  },
  opencode: (world) => /ses_\w+/.exec(execFileSync(world.launcher, ['session', 'list'], { encoding: 'utf8', env: { PATH: process.env.PATH } }))?.[0],
};

/** It is released, and another goes on with its session by the id that the CLI itself gave it. */
async function goesOn(world) {
  await world.ready();
  await later(300);
  const before = await tell(world, first);
  const id = await until(() => FIND[world.cli](world), 'a session of its own');
  await world.broker.api('DELETE', '/api/spawned/agent');
  world.events.length = 0;
  const gone = world.models.turns.length;
  await world.spawn('agent', { cli: world.launcher, cwd: world.project, resume: id });
  await world.ready();
  await later(1000);
  await tell(world, second);
  const troubles = world.models.turns.length > gone && world.models.turns.some((turn) => turn.includes(before.mark)) ? [] : ['the model was not told what was said before'];
  const { sessionId } = await world.state();
  if (sessionId !== id) troubles.push(`the session was ${id} and is shown as ${sessionId}`);
  return [...troubles, ...without(await argv(world), id)];
}
goesOn.only = Object.keys(FIND);

/** Without a terminal: every shape arrives as it is, and after its end another goes on with its session. */
async function headless(world) {
  await world.ready();
  const troubles = [...await noTerminal(world)];
  for (const shape of Object.values(SHAPES)) await tell(world, shape);
  if (world.cli === 'claude') troubles.push(...await slash(world));
  const { sessionId: before, runtime } = await world.state();
  if (runtime !== 'headless') troubles.push(`it runs as ${runtime}`);
  const line = await argv(world);
  const words = { claude: ['-p', '--input-format', 'stream-json'], opencode: ['run', '--format', 'json'] }[world.cli];
  troubles.push(...without(line, ...words), ...without(line, '--model', MODELS[world.cli]), ...asked(world));
  const said = world.sent.at(-1);
  const known = world.events.splice(0);
  await world.client.release('agent');
  await world.client.spawnHeadless({ name: 'agent', cli: world.cli, cwd: world.project, model: MODELS[world.cli], continueFrom: 'agent' });
  await world.ready();
  await tell(world, second);
  const { sessionId: after } = await world.state();
  if (!before || before !== after) troubles.push(`the session was ${before} and is ${after}`);
  if (!world.models.turns.some((turn) => turn.includes(said.mark))) troubles.push('the model was not told what was said before');
  world.events.unshift(...known);
  return troubles;
}
headless.begin = async (world) => {
  world.client = HarnessDriverClient.connect({ connectionPath: world.broker.file });
  const input = { name: 'agent', cli: world.cli, cwd: world.project, model: MODELS[world.cli] };
  if (world.cli === 'claude') await world.client.spawnHeadless(input);
  else await world.client.spawnCli({ ...input, transport: 'headless' });
};
headless.only = ['claude', 'opencode'];

/** What is wrong about there being no terminal to look at. */
async function noTerminal(world) {
  const shown = await fetch(`${world.broker.url}/api/spawned/agent/snapshot`, { headers: { 'x-api-key': world.broker.api_key } });
  return shown.status === 409 ? [] : [`a picture of its terminal is answered with ${shown.status}`];
}

/** A command of the program's own, which its model does not hear. */
async function slash(world) {
  const turns = world.models.turns.length;
  const { event_id: id } = await world.broker.api('POST', '/api/send', { to: 'agent', text: '/context', raw: true });
  const came = await world.heard(({ kind, event_id: about }) => kind === 'delivery_verified' && about === id, 20_000);
  await world.quiet();
  return [...came ? [] : ['a slash command is not accepted'], ...world.models.turns.length === turns ? [] : ['the model heard a slash command']];
}

export const SESSION_PLAYS = { model, begin, goesOn, headless };
