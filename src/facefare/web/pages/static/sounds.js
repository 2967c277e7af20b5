// What a terminal lets hear beside what its screen shows: nothing relies on it. Silent where it is muted, where the
// machine has no sound, and as long as the browser wants to be touched first.

const LATE = 500; // ms: a tone that had to wait so long would be taken for another one

let audio = null;
let newest = 0;

// Tones (Hz) one after the other; the newest ones alone where they had to wait.
export async function play(tones, { volume = 0.25, seconds = 0.3, apart = 0.14 } = {}) {
  const [mine, asked] = [++newest, performance.now()];
  if (document.body.dataset.muted || !tones.length) return;
  try {
    audio ??= new AudioContext();
    if (audio.state !== "running") await audio.resume();
    if (mine !== newest || performance.now() - asked > LATE) return;
    tones.forEach((frequency, position) => {
      const start = audio.currentTime + position * apart;
      const [tone, gain] = [audio.createOscillator(), audio.createGain()];
      tone.frequency.value = frequency;
      gain.gain.setValueAtTime(volume, start);
      gain.gain.exponentialRampToValueAtTime(0.001, start + seconds);
      tone.connect(gain).connect(audio.destination);
      tone.start(start);
      tone.stop(start + seconds);
    });
  } catch {
    // no sound here
  }
}
