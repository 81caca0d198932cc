// Judges messages by a list of banned words.
//
// The input is `{"message": "…"}`, the parameter `banned` lists words, and the output is `{"verdict":"block","count":2}`:
// `allow` if none of the message's words is banned, and how many are.

import { log } from 'lamina:service/log@{{contract}}';
import { get } from 'lamina:service/parameters@{{contract}}';

// What the host calls, with bytes and for bytes. Every operator does, so equal inputs must give equal bytes: there is no
// network here, `Math.random()` always gives the same numbers, and the clock stands still.
//
// A string that is thrown is the service's answer to an input that it can't work on, and is certified as an output would
// be. Anything else that is thrown, an `Error` among them, ends the run as a failure, and its message is lost.
export function run(input) {
  const { message } = parse(input);
  if (message === '') throw 'the message is empty';
  const banned = new Set(words(get('banned') ?? ''));
  if (banned.size === 0) log('warn', 'the parameter `banned` lists no words, so all messages are allowed');
  const count = words(message).filter((word) => banned.has(word)).length;
  const verdict = count === 0 ? 'allow' : 'block';
  return new TextEncoder().encode(JSON.stringify({ verdict, count }));
}

function parse(input) {
  let value;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(input));
  } catch (error) {
    throw `the input isn't JSON of the expected form: ${error.message}`;
  }
  if (typeof value?.message !== 'string') {
    throw "the input isn't JSON of the expected form: `message` isn't a text";
  }
  return value;
}

// What stands between blanks and signs. Letters of all alphabets are part of words.
function words(text) {
  return text.toLowerCase().split(/[^a-z0-9\u0080-\uffff]+/).filter((word) => word !== '');
}
