(* OCaml 5: domains that stop each other for collections, effects, stack overflow found by SIGSEGV. Prints "ocaml ok". *)
let check ok what = if not ok then (print_endline ("FAILED: " ^ what); exit 1)
type tree = Leaf | Node of tree * int * tree
let rec make d = if d = 0 then Leaf else Node (make (d - 1), d, make (d - 1))
let rec count = function Leaf -> 1 | Node (l, _, r) -> count l + count r
let work () = let n = ref 0 in for _ = 1 to 20 do n := !n + count (make 12) done; !n
let rec deep n = if n < 0 then 0 else 1 + deep (n + 1)
let () =
  let domains = List.init 3 (fun _ -> Domain.spawn work) in
  for _ = 1 to 5 do Gc.full_major () done;
  List.iter (fun d -> check (Domain.join d = 20 * 4096) "domains") domains;
  for _ = 1 to 3 do check (try deep 0 = 0 with Stack_overflow -> true) "stack" done;
  let h = Hashtbl.create 16 in
  for i = 1 to 100000 do Hashtbl.replace h (i mod 5000) (string_of_int i) done;
  check (Hashtbl.length h = 5000 && Hashtbl.find h 0 = "100000") "table";
  check (try 1 / (Hashtbl.length h - 5000) = 0 with Division_by_zero -> true) "division";
  print_endline "ocaml ok"
