// "1 window", "2 windows".

import { count } from "./units.js";

export const plural = (n, word) => `${count(n)} ${word}${Number(n) === 1 ? "" : "s"}`;
