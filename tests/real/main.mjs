// Plays what is asked for on each CLI and prints a table of what became of the messages. Fails if a message is lost, doubled,
// changed or glued to another, if the model heard what nobody sent, or if a play found trouble.
import fs from 'node:fs';

import { CLIS } from './clis.mjs';
import { PLAYS as PLAIN } from './plays.mjs';
import { PWNED, SHAPES, cleaned, comparable, resolved } from './shapes.mjs';
import { SESSION_PLAYS } from './sessions.mjs';
import { TOOL_PLAYS } from './tools.mjs';
import { World, folder } from './world.mjs';

const PLAYS = { ...PLAIN, ...TOOL_PLAYS, ...SESSION_PLAYS };

const ROOT = process.env.REAL_CLIS;
const RUNS = Number(process.env.RUNS ?? 0);
/** How many messages a play sends unless RUNS says otherwise. */
const USUAL = { idle: 3, burst: 20, busy: 5, tool: 4, steer: 2, overtake: 2, start: 3, draft: 2, left: 1, dialog: 10, untrusted: 3, trust: 3, deny: 3, resume: 2 };
/** In which of them the agent asks something. */
const ASKING = ['dialog', 'tool', 'untrusted', 'trust', 'deny'];
/** How long before the request itself a turn may be told to begin, in ms: for machines under load. */
const ANNOUNCED = Number(process.env.ANNOUNCED ?? 0);
const envelope = (from) => new RegExp(String.raw`^Relay message from ${from} \[[^\]]*\]: `);
/** What the first message to a program says below its words. */
const HINT = /\s\(This is from another agent or a person\. To answer, .*\)\s*$/;

const asked = process.argv.slice(2);
const clis = CLIS.filter((cli) => asked.includes(cli));
const plays = asked.filter((word) => !CLIS.includes(word)).map((word) => {
  const [play, shapes] = word.split(':');
  if (!PLAYS[play]) throw new Error(`${word}: neither a CLI (${CLIS.join(', ')}) nor a play (${Object.keys(PLAYS).join(', ')})`);
  return { play, shapes: shapes?.split(',') ?? Object.keys(SHAPES) };
});
const program = plays.length ? plays : Object.keys(PLAYS).map((play) => ({ play, shapes: Object.keys(SHAPES) }));
const rows = [];

for (const cli of clis.length ? clis : CLIS) {
  for (const { play, shapes } of program) {
    if (PLAYS[play].only && !PLAYS[play].only.includes(cli)) continue;
    for (const shape of play === 'idle' ? shapes : [undefined]) await one(cli, play, shape);
  }
}
report();

async function one(cli, play, shape) {
  const name = shape ? `${play} ${shape}` : play;
  const dir = folder();
  let world;
  let troubles = [];
  let screen = '';
  try {
    world = await World.begin(cli, { dir, root: ROOT, begin: PLAYS[play].begin, ...PLAYS[play].how });
    troubles = await PLAYS[play](world, { shape, runs: RUNS || USUAL[play] }) ?? [];
  } catch (error) {
    troubles = [String(error.stack ?? error)];
  }
  if (world) troubles.push(...await shut(world), ...early(world));
  const made = world ? fs.readdirSync(world.project).filter((name) => name.startsWith(PWNED)) : [];
  if (made.length) troubles.push(`A MESSAGE PRESSED KEYS: ${made}`);
  screen = await world?.screen().catch(String) ?? '';
  if (!ASKING.includes(play)) {
    for (const { dialog } of world?.events.filter(({ kind }) => kind === 'agent_blocked') ?? []) troubles.push(`a dialog is told that is none: ${dialog}`);
  }
  const row = { cli, name, ...judge(world, troubles), troubles };
  rows.push(row);
  print(row);
  if (world?.heardAfter.length) console.log(`    interrupts were heard after ${world.heardAfter.join(', ')} ms`);
  if (process.env.VERBOSE || !good(row)) tell(world, row, screen);
  await world?.end();
  fs.rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
}

/** Messages that even their owner cannot have go on. */
async function shut(world) {
  const troubles = [];
  for (const message of world.sent.filter(({ acceptedAt }) => !acceptedAt)) {
    await world.broker.api('POST', '/api/spawned/agent/flush', {});
    if (await world.accepted(message, 20_000)) continue;
    troubles.push(`${message.mark} is held up, and flush does not help`);
  }
  return troubles;
}

/** Turns that are told to have begun before the model has the text. */
function early(world) {
  const told = world.events.filter(({ kind }) => kind === 'turn_started');
  return told.flatMap(({ event_id: id, at }) => {
    const message = world.sent.find((one) => one.id === id);
    const heard = message && [...world.modelsOf(message.to).when].find(([turn]) => turn.includes(message.mark));
    return heard && heard[1] - at > ANNOUNCED ? [`the turn of ${message.mark} is told ${Math.round(heard[1] - at)} ms before the model has it`] : [];
  });
}

function judge(world, troubles) {
  const row = { sent: 0, exact: 0, changed: 0, glued: 0, doubled: 0, lost: 0, wrong: 0, unaccepted: 0, untrue: 0, order: true, times: [], proofs: {} };
  if (!world) return row;
  const asks = (message) => /<<(run|tool)/.test(message.text);
  const messages = world.sent;
  for (const message of messages) {
    row.sent += 1;
    const about = (turn) => turn.includes(message.mark);
    const models = world.modelsOf(message.to);
    const standing = models.turns.filter(about);
    const told = standing.length ? standing : [...models.heard].filter(about);
    if (!message.acceptedAt) row.unaccepted += 1;
    else {
      row.times.push(message.acceptedAt - message.sentAt);
      row.proofs[message.proof] = (row.proofs[message.proof] ?? 0) + 1;
    }
    message.verdict = verdict(world.cli, message, told, messages);
    row[message.verdict] += 1;
    if (message.verdict === 'lost' && message.acceptedAt) row.untrue += 1;
  }
  const typed = world.typed ?? [];
  const turns = [...world.models.turns];
  const strange = [...turns, ...world.peer?.models.turns ?? []].filter((turn) => !messages.some(({ mark }) => turn.includes(mark)) && !typed.some((words) => turn.trim() === words.trim()));
  row.wrong = strange.length;
  if (strange.length) troubles.push(`the model heard: ${JSON.stringify(strange.map((turn) => turn.slice(0, 200)))}`);
  const positions = messages.filter((m) => m.to === 'agent' && m.from === 'tester' && !asks(m) && !m.urgent).map(({ mark }) => turns.findIndex((turn) => turn.includes(mark))).filter((at) => at >= 0);
  row.order = positions.every((at, index) => index === 0 || positions[index - 1] <= at);
  return row;
}

function verdict(cli, message, told, messages) {
  if (told.length === 0) return 'lost';
  if (told.length > 1) return 'doubled';
  const [turn] = told;
  if (messages.some((other) => other !== message && turn.includes(other.mark) && !message.text.includes(other.mark))) return 'glued';
  if (turn.split('Relay message from').length > 2) return 'doubled';
  const start = envelope(message.from);
  if (!start.test(turn.trimStart())) return 'glued';
  const body = turn.trimStart().replace(start, '').replace(HINT, '');
  return comparable(cli, body) === comparable(cli, resolved(cli, cleaned(message.text))) ? 'exact' : 'changed';
}

function good(row) {
  return row.sent > 0 && row.exact === row.sent && !row.wrong && !row.unaccepted && row.order && !row.troubles.length;
}

function tell(world, row, screen) {
  for (const trouble of row.troubles) console.log(`    trouble: ${trouble}`);
  for (const message of world?.sent ?? []) {
    if (message.verdict === 'exact' && message.acceptedAt) continue;
    const told = world.modelsOf(message.to).turns.filter((turn) => turn.includes(message.mark));
    console.log(`    ${message.verdict}${message.acceptedAt ? '' : ', not accepted'}: ${JSON.stringify(message.text.slice(0, 120))} -> ${JSON.stringify(told.map((turn) => turn.slice(0, 300)))}`);
  }
  const events = world?.events.filter(({ kind }) => ['delivery_blocked', 'worker_ready', 'delivery_failed', 'agent_blocked', 'agent_unblocked', 'dialog_answered'].includes(kind)) ?? [];
  for (const event of events.slice(0, 6)) console.log(`    ${event.kind}: ${event.reason ?? event.evidence ?? event.dialog}`);
  console.log(screen.split('\n').filter(Boolean).map((line) => `    | ${line}`).join('\n'));
}

function quantile(times, q) {
  if (!times.length) return '-';
  const sorted = [...times].sort((a, b) => a - b);
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]);
}

function cells(row) {
  return [
    row.cli, row.name, `${row.exact}/${row.sent}`, row.changed, row.glued, row.doubled, row.lost, row.wrong, row.unaccepted,
    row.order ? 'kept' : 'BROKEN', quantile(row.times, 0.5), quantile(row.times, 0.99), good(row) ? 'ok' : 'FAILED',
    Object.entries(row.proofs).map(([proof, count]) => `${proof} ${count}`).join(', '),
  ];
}

function print(row) {
  console.log(cells(row).map((cell, at) => String(cell).padEnd([9, 14][at] ?? 8)).join(''));
}

function report() {
  console.log('\n| CLI | play | exact | changed | glued | doubled | lost | wrong turns | not accepted | order | p50 ms | p99 ms | | proofs |');
  console.log('|---|---|---|---|---|---|---|---|---|---|---|---|---|---|');
  for (const row of rows) console.log(`| ${cells(row).join(' | ')} |`);
  const sum = (key) => rows.reduce((total, row) => total + row[key], 0);
  console.log(`\n${sum('exact')} of ${sum('sent')} messages became exactly one turn with exactly their text; send to accepted p50 `
    + `${quantile(rows.flatMap(({ times }) => times), 0.5)} ms, p99 ${quantile(rows.flatMap(({ times }) => times), 0.99)} ms.`);
  process.exitCode = rows.every(good) ? 0 : 1;
}
